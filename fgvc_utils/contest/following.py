"""What a decision on an image says of its copies: the same photo need not be looked at twice."""

from collections.abc import Sequence

import pandas as pd

from fgvc_utils.contest.decision import COPY_OF, Decision, of_copy


class Copies:
    """The train images that are copies of each other.

    Parameters
    ----------
    table
        The label table: columns image_id, split, given and group.
    """

    def __init__(self, table: pd.DataFrame):
        train = table[table["split"] == "train"]
        shared = train[train["group"].duplicated(keep=False)]
        self._given = dict(zip(shared["image_id"], shared["given"], strict=True))
        self._group = dict(zip(shared["image_id"], shared["group"], strict=True))
        self._members = {group: ids.tolist() for group, ids in shared.groupby("group")["image_id"]}

    def of(self, image_id: str) -> list[str]:
        """The copies of an image, itself left out, in the table's order."""
        members = self._members.get(self._group.get(image_id), [])
        return [member for member in members if member != image_id]

    def following(self, made: Sequence[Decision]) -> list[Decision]:
        """What follows from some decisions for the copies that are not decided on in them.

        The decision is that of the source, for the class that its photo shows. A copy under
        another label takes the class that was confirmed; where the source was only dropped, which
        may have been for its label, nothing follows for a copy under another one.

        Returns
        -------
        list of Decision
            Each names in `shown` the image that it followed from (`journal.followed_from`).
        """
        chosen = {one.item for one in made}
        found = []
        for one in made:
            for copy in self.of(one.item):
                answer = of_copy(one, self._given[one.item], self._given[copy])
                if copy not in chosen and answer:
                    found.append(Decision(copy, *answer, shown=COPY_OF + one.item))
        return found

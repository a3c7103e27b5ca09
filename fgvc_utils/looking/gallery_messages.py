"""What a browser may send to a gallery: each message with its types and sizes; all else raises."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

LONGEST_TEXT = 1000
# Numbers and lists beyond this are no place of any gallery.
LARGEST = 10_000_000

Text = Annotated[StrictStr, Field(max_length=LONGEST_TEXT)]
Number = Annotated[StrictInt, Field(ge=0, le=LARGEST)]


class _Message(BaseModel):
    """Base of all messages; parts that a kind does not know are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Drawn(_Message):
    """A browser has drawn the gallery."""

    type: Literal["drawn"]


class Question(_Message):
    """Asks for something to show; the answer carries `ask`. Places count within `view`."""

    ask: Text
    view: Number


class Tiles(Question):
    """The tiles from one place to another, which is not among them."""

    type: Literal["tiles"]
    begin: Annotated[Number, Field(alias="from")]
    end: Annotated[Number, Field(alias="to")]


class Look(Question):
    """A candidate beside what it should look like."""

    type: Literal["look"]
    place: Number


class Zoom(Question):
    """A candidate's full picture."""

    type: Literal["zoom"]
    place: Number


class Search(Question):
    """Classes by a typed text."""

    type: Literal["search"]
    text: Text


class LikeCases(Question):
    """The like cases of what was just decided, with their photos."""

    type: Literal["likes"]
    offer: Number


class _Action(_Message):
    """Changes something; the answer carries `id`. `cursor` is where the browser's cursor is."""

    id: Text
    view: Number
    cursor: Number


class Decide(_Action):
    """Decide on candidates, by their places."""

    type: Literal["decide"]
    places: Annotated[list[Number], Field(min_length=1, max_length=LARGEST)]
    decision: Text
    label: Text = ""
    suggestion: Number = 0


class Alike(_Action):
    """Decide on like cases as it was decided on what they are like."""

    type: Literal["alike"]
    offer: Number
    items: Annotated[list[Text], Field(min_length=1, max_length=LONGEST_TEXT)]


class Undo(_Action):
    """Take back the latest action."""

    type: Literal["undo"]


class Redo(_Action):
    """Do again what was last taken back."""

    type: Literal["redo"]


class Seek(_Action):
    """Go to the next undecided candidate."""

    type: Literal["seek"]


class Arrange(_Action):
    """Put candidates in another order, or show some of them."""

    type: Literal["arrange"]
    sort: Text
    descending: StrictBool
    show: Text
    text: Text


Message = Drawn | Tiles | Look | Zoom | Search | LikeCases
Message |= Decide | Alike | Undo | Redo | Seek | Arrange
_READER = TypeAdapter(Annotated[Message, Field(discriminator="type")])


def read_message(content: Any) -> Message:
    """A message as a record of its kind.

    Raises
    ------
    ValueError
        A part is missing, of another type, or too large; the message names the part but does not
        repeat what was sent, which may be large.
    """
    try:
        return _READER.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        part = ".".join(map(str, first["loc"])) or "message"
        raise ValueError(
            f"the browser sent what no gallery asks for ({part}: {first['msg'][:200]}); "
            "nothing was decided"
        ) from None


def id_of(content: Any) -> str:
    """The id that the answer to a message must carry, also where the message itself is refused."""
    sent = content.get("id", "") if isinstance(content, dict) else ""
    return sent if isinstance(sent, str) and len(sent) <= LONGEST_TEXT else ""

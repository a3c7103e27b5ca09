"""Whether the weights of networks are among those that a contest's rules allow.

    python -m fgvc_utils.training.pretrained PATTERNS NETWORKS

The command is for a notebook's kernel, which loads no timm: it takes two lists and prints the
answers, all as JSON.

Counts in no digest.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache

from fgvc_utils.contest.contest_rules import matches
from fgvc_utils.core.naming import first_quoted

# Repositories of timm's own weights on the hub, whose names are those of timm.
TIMM_HUB = "hf-hub:timm/"


@lru_cache
def names_of(backbone: str) -> tuple[str, ...]:
    """Return a network's name as it is written, and in full, with the tag that says its weights."""
    import timm

    bare = backbone.removeprefix(TIMM_HUB)
    if not timm.is_model(bare):
        return (backbone,)
    architecture, _, tag = bare.partition(".")
    known = tag or (timm.get_pretrained_cfg(bare) or timm.models.PretrainedCfg()).tag
    full = f"{architecture}.{known}" if known else architecture
    return tuple(dict.fromkeys((backbone, bare, full)))


def full_name(backbone: str) -> str:
    """Return a network's name with the tag that says its weights, where timm knows it."""
    return names_of(backbone)[-1]


def in_full(patterns: Sequence[str]) -> list[str]:
    """Return patterns with those that name a network of timm in full."""
    plain = [pattern if set(pattern) & set("*?[!") else full_name(pattern) for pattern in patterns]
    return list(dict.fromkeys([*patterns, *plain]))


def forbidden(patterns: Sequence[str], backbones: Sequence[str]) -> dict[str, str]:
    """Return those networks whose weights no pattern allows, with their names in full.

    Parameters
    ----------
    patterns : sequence of str
        `ContestRules.pretraining`; none allows all.
    backbones : sequence of str
        Names of networks as a contest file has them.
    """
    if not patterns:
        return {}
    wanted = in_full(patterns)
    return {
        each: full_name(each)
        for each in dict.fromkeys(backbones)
        if not matches(wanted, names_of(each))
    }


def strangers(patterns: Sequence[str]) -> list[str]:
    """Return those patterns that allow no network of timm, such as misspelt ones.

    Names of the hub and of folders are left out: timm does not list them.
    """
    import timm

    asked = [each for each in patterns if ":" not in each and not each.startswith("!")]
    known = timm.list_pretrained()
    return [each for each in asked if not any(matches(in_full([each]), [name]) for name in known)]


def forbidden_elsewhere(patterns: Sequence[str], backbones: Sequence[str]) -> dict[str, str]:
    """Do as `forbidden` in a process of its own, so that this one loads no timm.

    Raises
    ------
    RuntimeError
        The process failed; with what it said.
    """
    open_names = [each for each in backbones if not _decided(patterns, each)]
    if not patterns or not open_names:
        return {}
    asked = [json.dumps(list(each)) for each in (patterns, open_names)]
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, *asked], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise RuntimeError(f"the names of {first_quoted(list(backbones))} are not known: {said[0]}")
    return json.loads(done.stdout)


def _decided(patterns: Sequence[str], backbone: str) -> bool:
    """Whether a name is allowed as it is written, so that nobody need ask for its full one."""
    bare = backbone.removeprefix(TIMM_HUB)
    return "." in bare and matches(patterns, (backbone, bare))


def main(arguments: Sequence[str]) -> int:
    """Print as JSON what `forbidden` says of patterns and networks, two lists as JSON."""
    patterns, backbones = map(json.loads, arguments)
    print(json.dumps(forbidden(patterns, backbones)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

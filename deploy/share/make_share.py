"""Writes what a package puts below /usr/share: man pages, completions of three shells, the schema of services.conf.

`python3 deploy/share/make_share.py FOLDER`, in an environment that has bootstorm and click-man.  Commands come from
the command line itself, keys from the fields that the parser goes by: nothing is said here a second time.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import ShellComplete, get_completion_class
from click_man.core import generate_man_page

from control.cli.command_line import main
from control.config.config import search_path
from control.config.schema import default_of, document, sections
from fastpath.process.build import VERSION

COMPLETIONS = {  # as Debian's shells look for them
    "bash": "bash-completion/completions/bootstorm",
    "zsh": "zsh/vendor-completions/_bootstorm",
    "fish": "fish/vendor_completions.d/bootstorm.fish",
}
SCHEMA = "bootstorm/services.schema.json"
EXAMPLE = {
    "http": {"bind_address": "127.0.0.1", "bind_port": 9996},
    "dhcp": {
        "api_url": "http://localhost:9996",
        "interfaces": ["eth1"],
        "relays": ["10.20.0.0/16"],
        "extra_options": {"150": "tftp_address"},
    },
}


def day() -> str:
    """Of today, or of the sources where the build is to be repeatable."""
    return time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))


def roff(text: str) -> str:
    """Prose for a man page: `code` in bold, nothing that is taken for a request."""
    plain = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^([.'])", r"\\&\1", re.sub(r"`([^`]+)`", r"\\fB\1\\fP", plain), flags=re.MULTILINE)


def pages(name: str, command: click.Command, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Name and text of a command's man page, and of those of its commands."""
    context = click.Context(command, info_name=name, parent=parent)
    # What click-man has in NAME is cut off in the middle, and apropos shows nothing else.
    sentence = re.split(r"\.(?:\s|$)|(?<=\?)\s", " ".join((command.help or "").split()))[0].rstrip(". ")
    page = generate_man_page(context, VERSION, day())
    yield (
        context.command_path.replace(" ", "-"),
        re.sub(r"(?m)(?<=^\.SH NAME\n)(.* \\- ).*$", lambda found: found[1] + roff(sentence), page),
    )
    for inner, each in getattr(command, "commands", {}).items():
        if not each.hidden:
            yield from pages(inner, each, context)


def key_lines(section: str, kind: type, key: dataclasses.Field[Any]) -> list[str]:
    about = key.metadata
    wanted = f"Wanted: {about['check'].wanted}. Default: {default_of(kind, key)}."
    restart = f" A change needs a restart: {about['restart']}." if about["restart"] else ""
    meaning = about["doc"][0].upper() + about["doc"][1:]
    return [".TP", rf"\fB{roff(f'{section}.{key.name}')}\fP", roff(f"{meaning}."), ".br", roff(wanted + restart)]


def services_conf() -> str:
    """services.conf(5)."""
    lines = [
        f'.TH SERVICES.CONF 5 "{day()}" "bootstorm {VERSION}" "File Formats"',
        ".SH NAME",
        r"services.conf \- configuration of bootstorm and clusto",
        ".SH DESCRIPTION",
        "One JSON object with an object for each section. A key that is left out has its default; {} is a complete",
        "file. An unknown key is a fault, and so is one that occurs twice.",
        r".BR bootstorm\-check (1)",
        "lists every fault of a file at once.",
        ".PP",
        "An editor that knows JSON Schema completes keys and underlines wrong values with the schema that",
        r".BR bootstorm\-schema (1)",
        rf"prints, if the file names it: {roff(json.dumps({'$schema': f'/usr/share/{SCHEMA}'})[1:-1])}.",
        ".SH KEYS",
    ]
    for name, kind in sections():
        lines += [f".SS {name}", roff(str(kind.__doc__))]
        for key in dataclasses.fields(kind):
            lines += key_lines(name, kind, key)
    lines += [".SH FILES", "The first of these that exists, unless a command is given another one:"]
    for path in search_path("$HOME"):
        lines += [".TP", rf"\fI{roff(str(path))}\fP"]
    lines += [".SH EXAMPLES", ".EX", *roff(json.dumps(EXAMPLE, indent=2)).splitlines(), ".EE", ".SH SEE ALSO"]
    lines += [r".BR bootstorm (1),", r".BR bootstorm\-check (1),", r".BR bootstorm\-schema (1)"]
    return "\n".join(lines) + "\n"


def completion(shell: str) -> str:
    """Of bash all words at once.  Of the others click's own script, which asks `bootstorm` itself at each TAB."""
    if shell == "bash":
        return bash_completion()
    found = get_completion_class(shell)
    assert found is not None, shell
    # ShellComplete's: that of bash first runs the bash of this machine, to warn of an old one.
    return ShellComplete.source(found(main, {}, "bootstorm", "_BOOTSTORM_COMPLETE"))


def tables() -> dict[str, dict[str, str]]:
    """Of each command, by its path: its commands, the values of an argument with a choice, its options, those that take
    a value; and of each option with a choice, by path and option, its values."""
    kinds = "commands", "arguments", "options", "valued", "choices"
    found: dict[str, dict[str, str]] = {kind: {} for kind in kinds}
    todo: list[tuple[str, click.Command]] = [("bootstorm", main)]
    while todo:
        path, command = todo.pop(0)
        inner = [(name, each) for name, each in getattr(command, "commands", {}).items() if not each.hidden]
        todo += [(f"{path} {name}", each) for name, each in inner]
        context = click.Context(command, info_name=path, **command.context_settings)
        options = [each for each in command.get_params(context) if isinstance(each, click.Option) and not each.hidden]
        names = [name for each in options for name in (*each.opts, *each.secondary_opts)]
        valued = [name for each in options if not each.is_flag and not each.count for name in each.opts]
        found["commands"][path] = " ".join(sorted(name for name, _each in inner))
        for each in command.params:
            if isinstance(each, click.Argument) and isinstance(each.type, click.Choice):
                found["arguments"][path] = " ".join(str(value) for value in each.type.choices)
        found["options"][path] = " ".join(names)
        found["valued"][path] = " ".join(valued)
        for each in options:
            if isinstance(each.type, click.Choice):
                values = " ".join(str(value) for value in each.type.choices)
                found["choices"] |= {f"{path} {name}": values for name in each.opts}
    return found


def bash_completion() -> str:
    """Without a process of ours: loading Python and click would take a quarter of a second at each TAB."""
    lines = ["# Completion of bootstorm, made of its commands by deploy/share/make_share.py."]
    for name, table in tables().items():
        lines += [f"declare -gA _bootstorm_{name}=("]
        lines += [f'    ["{key}"]="{words}"' for key, words in table.items() if words]
        lines += [")"]
    return "\n".join(lines) + BASH


BASH = r"""
_bootstorm_has() {
    [[ " ${1} " == *" ${2} "* ]]
}

_bootstorm_completion() {
    local path=bootstorm word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} at words
    for ((at = 1; at < COMP_CWORD; at++)); do
        if _bootstorm_has "${_bootstorm_valued[$path]}" "${COMP_WORDS[at]}"; then
            ((at++))
        elif _bootstorm_has "${_bootstorm_commands[$path]}" "${COMP_WORDS[at]}"; then
            path+=" ${COMP_WORDS[at]}"
        fi
    done
    if ((at > COMP_CWORD)); then
        words=${_bootstorm_choices["$path $before"]}
    elif [[ $word == -* ]]; then
        words=${_bootstorm_options[$path]}
    else
        words="${_bootstorm_commands[$path]} ${_bootstorm_arguments[$path]}"
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -o bashdefault -o default -F _bootstorm_completion bootstorm
"""


def write(share: Path) -> None:
    """share: as /usr/share; what is there is overwritten."""
    files = {f"man/man1/{name}.1": page for name, page in pages("bootstorm", main)}
    files |= {path: completion(shell) for shell, path in COMPLETIONS.items()}
    files["man/man5/services.conf.5"] = services_conf()
    files[SCHEMA] = json.dumps(document(), indent=2) + "\n"
    for path, text in files.items():
        (share / path).parent.mkdir(parents=True, exist_ok=True)
        (share / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))

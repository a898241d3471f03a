#!/usr/bin/env python3
"""Man pages from the command line's own definitions.

    manual.py PROGRAM VERSION DATE FOLDER

One page for the program and one for each command (sekisho-run.1), from what PROGRAM says of itself (--experimental-dump-help, which
swift-argument-parser has for this). Its own plugin GenerateManual builds the program once more and names the pages otherwise.
"""

import json
import pathlib
import subprocess
import sys


def escaped(text):
    """As plain text in roff. A line that begins with . or ' would be a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.split("\n"))


def paragraphs(text):
    return "\n.PP\n".join(escaped(" ".join(part.split()) if not part.startswith(" ") else part) for part in text.strip().split("\n\n"))


def shown(command):
    return [one for one in command.get("arguments", []) if one["shouldDisplay"]]


def name_of(name):
    return ("-" if name["kind"] == "short" else "--") + name["name"]


def usage(one):
    value = f"\\fI{escaped(one['valueName'])}\\fR"
    if one["kind"] == "positional":
        text = value
    else:
        # The name that most people will read: the long one.
        name = next((n for n in one["names"] if n["kind"] == "long"), one["names"][0])
        text = f"\\fB{escaped(name_of(name))}\\fR" + (f" {value}" if one["kind"] == "option" else "")
    text += " ..." if one["isRepeating"] else ""
    return f"[{text}]" if one["isOptional"] else text


def entry(one):
    value = f"\\fI{escaped(one['valueName'])}\\fR"
    if one["kind"] == "positional":
        head = value
    else:
        head = ", ".join(f"\\fB{escaped(name_of(n))}\\fR" for n in one["names"]) + (f" {value}" if one["kind"] == "option" else "")
    text = one.get("abstract", "")
    if values := one.get("allValues"):
        text += f" One of: {', '.join(values)}."
    if (default := one.get("defaultValue")) and "default:" not in text:
        text += f" Default: {default}."
    return f".TP\n{head}\n{escaped(text) if text else '.br'}"


def page(command, path, version, date):
    title = "-".join(path)
    lines = [f'.TH {escaped(title.upper())} 1 "{date}" "sekisho {version}" "Sekisho"', ".nh", ".ad l", ".SH NAME",
             f"{escaped(title)} \\- {escaped(command.get('abstract', '').rstrip('.'))}", ".SH SYNOPSIS"]
    own = shown(command)
    lines.append(f"\\fB{escaped(' '.join(path))}\\fR " + " ".join(usage(one) for one in own) + (" \\fIcommand\\fR ..." if command.get("subcommands") else ""))
    if discussion := command.get("discussion"):
        lines += [".SH DESCRIPTION", paragraphs(discussion)]
    for kind, heading in (("positional", "ARGUMENTS"), ("other", "OPTIONS")):
        found = [one for one in own if (one["kind"] == "positional") == (kind == "positional")]
        if found:
            lines += [f".SH {heading}"] + [entry(one) for one in found]
    commands = [one for one in command.get("subcommands", []) if one["shouldDisplay"] and one["commandName"] != "help"]
    if commands:
        lines.append(".SH COMMANDS")
        for one in commands:
            lines += [".TP", f"\\fB{escaped('-'.join(path + [one['commandName']]))}\\fR(1)", escaped(one.get("abstract", ""))]
    lines += [".SH EXIT STATUS", ".TP", "0", "It was done; of a question, the answer is yes.", ".TP", "1",
              "It did not work, or the answer is no.", ".TP", "2", "It could not be found out, where 1 is an answer.", ".TP", "64", "Wrong arguments."]
    if len(path) == 1:
        lines += [".SH FILES"]
        for file, what in (("/etc/sekisho/NAME.conf", "Ports and options of the bridge that is started as sekisho@NAME."),
                           ("/etc/sekisho/NAME.toml", "Its policy."), ("/var/lib/sekisho/NAME", "What it records."),
                           ("/run/sekisho/NAME.sock", "Its control socket; for root and the group sekisho."),
                           ("/usr/share/doc/sekisho", "How to operate it, what is promised, examples.")):
            lines += [".TP", f"\\fI{escaped(file)}\\fR", escaped(what)]
    others = ([] if len(path) == 1 else [path[0]]) + ["-".join(path + [one["commandName"]]) for one in commands]
    if others and len(path) > 1:
        lines += [".SH SEE ALSO", ", ".join(f"\\fB{escaped(other)}\\fR(1)" for other in others)]
    return "\n".join(lines) + "\n"


def walk(command, path, version, date, folder):
    (folder / f"{'-'.join(path)}.1").write_text(page(command, path, version, date))
    for one in command.get("subcommands", []):
        if one["shouldDisplay"] and one["commandName"] != "help":
            walk(one, path + [one["commandName"]], version, date, folder)


def main():
    if len(sys.argv) != 5:
        sys.exit("usage: manual.py PROGRAM VERSION DATE FOLDER")
    program, version, date, folder = sys.argv[1:]
    told = json.loads(subprocess.run([program, "--experimental-dump-help"], check=True, capture_output=True).stdout)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    walk(told["command"], [told["command"]["commandName"]], version, date, folder)


main()

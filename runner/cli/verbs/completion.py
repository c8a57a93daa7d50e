"""Tab completion for `runner` and `python -m runner`."""

from __future__ import annotations

SCRIPT = r"""# eval "$(runner completion)"  — in ~/.bashrc or ~/.zshrc
[ -n "${ZSH_VERSION-}" ] && autoload -Uz bashcompinit && bashcompinit
_runner_query() {
    local line="runner ${1}" words word="${COMP_WORDS[COMP_CWORD]}"
    words=$(COMP_LINE="$line" COMP_POINT=${#line} "${@:2}" -sc query=bash 2>/dev/null)
    # Bash splits words at "=": what stands before it is on the line already.
    local typed="${line##* }" left=""
    case "$typed" in *=*) left="${typed%"${typed##*=}"}" ;; esac
    [ "$word" = "=" ] && word=""
    COMPREPLY=()
    local choice
    for choice in $words; do
        case "$choice" in "$typed"*) COMPREPLY+=("${choice#"$left"}") ;; esac
    done
    case "${COMPREPLY[0]-}" in *=|*.|*/) type compopt >/dev/null 2>&1 && compopt -o nospace ;; esac
}
_runner() {
    local line="${COMP_LINE:0:$COMP_POINT}"
    _runner_query "${line#"${COMP_WORDS[0]} "}" "${COMP_WORDS[0]}"
}
_runner_module() {
    local line="${COMP_LINE:0:$COMP_POINT}"
    case "$line" in
        *" -m runner "*) _runner_query "${line#*" -m runner "}" "${COMP_WORDS[0]}" -m runner ;;
        *) COMPREPLY=(); compopt -o default 2>/dev/null ;;
    esac
}
complete -F _runner runner
complete -o default -F _runner_module python python3
"""


def main(_arguments: list[str]) -> int:
    """Print the script."""
    print(SCRIPT, end="")
    return 0

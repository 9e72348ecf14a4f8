/** Shells that `acectl completion` knows. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;

export type Shell = (typeof SHELLS)[number];

export function isShell(text: string): text is Shell {
  return SHELLS.some((shell) => shell === text);
}

/** The word that the scripts call acectl with; in no help, and no command. */
export const COMPLETE_WORD = '__complete';

const BASH = `# bash completion of acectl and aced, as printed by: acectl completion bash
_acectl() {
  local program=$1 line kind=''
  [ "\${program##*/}" = acectl ] || program=acectl
  COMPREPLY=()
  while IFS= read -r line; do
    if [ -z "$kind" ]; then kind=$line; else COMPREPLY+=("$line"); fi
  done < <("$program" ${COMPLETE_WORD} bash "\${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null)
  [ "$kind" != files ] || compopt -o default
}
complete -o nosort -F _acectl acectl aced 2>/dev/null || complete -F _acectl acectl aced
`;

const ZSH = `#compdef acectl aced
# zsh completion of acectl and aced, as printed by: acectl completion zsh
_acectl() {
  local -a lines texts shown
  local line
  lines=("\${(@f)$(acectl ${COMPLETE_WORD} zsh "\${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX" 2>/dev/null)}")
  if [[ $lines[1] == files ]]; then
    compset -P '*='
    _files
    return
  fi
  for line in "\${(@)lines[2,-1]}"; do
    texts+=("\${line%%$'\\t'*}")
    shown+=("\${line/$'\\t'/  -- }")
  done
  (( $#texts )) || return 1
  compadd -U -l -V acectl -d shown -- "\${(@)texts}"
}
if [[ $funcstack[1] == _acectl ]]; then _acectl "$@"; else compdef _acectl acectl aced; fi
`;

const FISH = `# fish completion of acectl and aced, as printed by: acectl completion fish
function __acectl_complete
    set -l answer (acectl ${COMPLETE_WORD} fish (commandline -cp | string collect) 2>/dev/null)
    set -l kind $answer[1]
    set -e answer[1]
    if test "$kind" = files
        __fish_complete_path (commandline -ct)
    else if set -q answer[1]
        printf '%s\\n' $answer
    end
end
complete -c acectl -f -a '(__acectl_complete)'
complete -c aced -f -a '(__acectl_complete)'
`;

export const SCRIPTS: Readonly<Record<Shell, string>> = { bash: BASH, zsh: ZSH, fish: FISH };

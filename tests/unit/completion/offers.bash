# What bash offers at the end, or at ^, of each line of standard input, a line for each. What precedes
# the last character of COMP_WORDBREAKS is in bash's line already.
set -u
. completions/penstock.bash
COMP_WORDBREAKS=${BREAKS-$' \t\n"\'><=;|&(:'}
while IFS= read -r line; do
	COMP_LINE=${line/^} before=${line%%^*}
	COMP_POINT=${#before}
	COMPREPLY=()
	_penstock 2> /dev/null
	word=${before##*[[:space:]]} kept=
	[[ $COMP_WORDBREAKS == *:* ]] && kept=${word%"${word##*:}"}
	echo "${COMPREPLY[@]/#/$kept}"
done

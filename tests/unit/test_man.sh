#!/bin/bash
# Each command has a man page with the options that its --help has, no more and no fewer, and with an
# EXIT STATUS, and leads to its --help when used wrongly; no page has a mistake that man(1) warns of: test_man.sh PENSTOCK
set -u
cd "$(dirname "$0")/../../docs/man" || exit 1
program=$1
passed=0 failed=0

check()
{
	if [ "$2" = "$3" ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		printf 'FAIL %s\n%s\n' "$1" "$(diff <(echo "$2") <(echo "$3"))"
	fi
}

for command in $("$program" --help | sed -n 's/^  \([a-z-]*\) .*/\1/p'); do
	page=penstock-$command.1
	check "$page: options (> only on the page, < only in --help)" \
		"$("$program" "$command" --help | sed -n 's/^  *\(--[a-z-]*\).*/\1/p' | grep -vx -e --help | sort -u)" \
		"$(grep -o 'Fl -[a-z-]*' "$page" | sed 's/Fl /-/' | sort -u)"
	# run has a hint of its own form, and only where getopt(3) has said nothing.
	[ "$command" = run ] || check "$command: a wrong option leads to its --help" \
		"Try 'penstock $command --help'." "$("$program" "$command" --nonsense 2>&1 | tail -n 1)"
	check "$page: named in penstock.1" 1 "$(grep -cx ".It Xr penstock-$command 1" penstock.1)"
done
for page in *.1; do
	check "$page: has an EXIT STATUS" 1 "$(grep -cx '.Sh EXIT STATUS' "$page")"
	if command -v man > /dev/null; then
		check "$page: warnings" "" "$(man -l --warnings "$page" 2>&1 > /dev/null)"
	fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]

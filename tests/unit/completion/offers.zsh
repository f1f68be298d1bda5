# What zsh offers at the end of each line of standard input, a line for each. Zsh completes in its line
# editor only: a shell on a terminal of its own reads this file, too, then gets the lines, each with a
# Tab, and prints what completion adds as far as zsh finds that it matches.
if [[ ${1-} == on-terminal ]]; then
	PS1= fpath=($PWD/completions $fpath)
	autoload -U compinit
	compinit -u -D
	compadd()
	{
		local -a matching
		local prefix=${@[(i)-p]}
		# With these it adds nothing.
		if [[ -z ${(M)@:#-[OAD]} ]]; then
			builtin compadd -O matching "$@"
			offered+=(${matching/#/${@[prefix + 1]}})
		fi
		builtin compadd "$@"
	}
	offer()
	{
		local -a offered
		_main_complete
		compstate[insert]= compstate[list]=
		print -r -- "<$offered>"
	}
	zle -C offer complete-word offer
	bindkey '^I' offer
	bindkey '^U' kill-whole-line
	print '<>'
	return
fi

answer()
{
	local text=
	until [[ $text == *'<'*'>'* ]]; do
		zpty -r shell REPLY || exit 1
		text+=$REPLY
	done
	REPLY=${${text#*<}%%>*}
}

zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell ". $0 on-terminal"
answer
while IFS= read -r line; do
	zpty -w -n shell $'\C-U'"$line"$'\t'
	answer
	print -r -- $REPLY
done

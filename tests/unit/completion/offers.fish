# What fish offers at the end of each line of standard input, a line for each.
source completions/penstock.fish
while read -l line
    echo (complete -C "$line" | string replace -r '\t.*' '')
end

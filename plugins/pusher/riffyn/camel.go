package main

import (
	"strings"
	"unicode"
)

// camelCase is the name under which a row's member answers to a property. The rule is that of the former gateway, whose
// clients know it: title-case the name as Python does (a letter after a non-letter in upper case, all others in lower
// case), take the spaces out, and put the first character in lower case.
func camelCase(name string) string {
	var b strings.Builder
	b.Grow(len(name))
	afterLetter := false
	for _, c := range name {
		cased := unicode.In(c, unicode.Lu, unicode.Ll, unicode.Lt, unicode.Other_Uppercase, unicode.Other_Lowercase)
		switch {
		case !cased:
		case b.Len() == 0, afterLetter:
			c = unicode.ToLower(c)
		default:
			c = unicode.ToTitle(c)
		}
		afterLetter = cased
		if c != ' ' {
			b.WriteRune(c)
		}
	}
	return b.String()
}

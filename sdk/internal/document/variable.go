package document

import "strings"

// Variable is the name of a property's environment variable: flush_interval and flushInterval are PREFIX_FLUSH_INTERVAL.
func Variable(prefix, property string) string {
	var b strings.Builder
	b.WriteString(prefix)
	lower := false
	for _, r := range property {
		switch {
		case r >= 'A' && r <= 'Z':
			if lower {
				b.WriteByte('_')
			}
			b.WriteRune(r)
			lower = false
		case r >= 'a' && r <= 'z':
			b.WriteRune(r - 'a' + 'A')
			lower = true
		case r >= '0' && r <= '9':
			b.WriteRune(r)
			lower = true
		default:
			b.WriteByte('_')
			lower = false
		}
	}
	return b.String()
}

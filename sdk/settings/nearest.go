package settings

import (
	"strings"

	"github.com/agext/levenshtein"
)

// Nearest is the known name that was probably meant by name, or "" when none is near. Case does not count. One edit,
// or two neighbours swapped, is near for a short name, three at most for a long one, so that PORT is not taken for HOST.
func Nearest(name string, known []string) string {
	best, bestDistance := "", 0
	name = strings.ToUpper(name)
	for _, k := range known {
		upper := strings.ToUpper(k)
		allowed := 3
		switch shorter := min(len(name), len(upper)); {
		case shorter < 5:
			allowed = 1
		case shorter < 9:
			allowed = 2
		}
		distance := levenshtein.Distance(name, upper, nil)
		if swapped(name, upper) {
			distance = 1
		}
		if distance <= allowed && (best == "" || distance < bestDistance) {
			best, bestDistance = k, distance
		}
	}
	return best
}

// swapped tells whether a and b differ by two neighbours that changed places, the commonest slip of all.
func swapped(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) - 1 {
		if a[i] != b[i] {
			return a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
		}
	}
	return false
}

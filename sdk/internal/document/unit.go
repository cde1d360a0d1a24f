package document

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The unit keywords of a property are ours. A validator that does not know them ignores them; ours words its messages by
// them and compares the bounds, which JSON Schema cannot do for text.
const (
	KeyUnit    = "x-unit" // UnitDuration or UnitBytes
	KeyMinimum = "x-minimum"
	KeyMaximum = "x-maximum"

	UnitDuration = "duration"
	UnitBytes    = "bytes"
)

// The texts that time.ParseDuration and ParseBytes take, without a sign.
const (
	DurationPattern = `^(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`
	BytesPattern    = `^[0-9]+ *(B|KiB|MiB|GiB|TiB)?$`
)

// What a text is that is of no such unit.
const (
	NoDuration = "is not a duration such as 500ms, 30s or 1m30s"
	NoBytes    = "is not a size such as 4096, 64KiB or 16MiB"
)

// ParseUnit reads the text of a unit: nanoseconds of a duration, bytes of a size.
func ParseUnit(unit, text string) (int64, error) {
	if unit == UnitBytes {
		return ParseBytes(text)
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s %s", Quote(text), NoDuration)
	}
	return int64(d), nil
}

var sizes = []struct {
	name string
	size int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// ParseBytes reads a size: digits, and perhaps B, KiB, MiB, GiB or TiB.
func ParseBytes(text string) (int64, error) {
	digits, size := strings.TrimSpace(text), int64(1)
	for _, unit := range sizes {
		if rest, ok := strings.CutSuffix(digits, unit.name); ok {
			digits, size = strings.TrimSpace(rest), unit.size
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || digits[0] == '+' || n > math.MaxInt64/size {
		return 0, fmt.Errorf("%s %s", Quote(text), NoBytes)
	}
	return n * size, nil
}

// FormatBytes is the shortest exact form of a size: 16MiB, 1500.
func FormatBytes(n int64) string {
	for _, unit := range sizes {
		if n != 0 && unit.size > 1 && n%unit.size == 0 {
			return strconv.FormatInt(n/unit.size, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

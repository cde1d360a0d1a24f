package settings

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

var units = []struct {
	name string
	size int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// ParseBytes reads a size: digits, and perhaps B, KiB, MiB, GiB or TiB.
func ParseBytes(text string) (Bytes, error) {
	digits, size := strings.TrimSpace(text), int64(1)
	for _, unit := range units {
		if rest, ok := strings.CutSuffix(digits, unit.name); ok {
			digits, size = strings.TrimSpace(rest), unit.size
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || digits[0] == '+' || n > math.MaxInt64/size {
		return 0, fmt.Errorf("%q is not a size such as 4096, 64KiB or 16MiB", text)
	}
	return Bytes(n * size), nil
}

// String is the shortest exact form: 16MiB, 1500.
func (b Bytes) String() string {
	for _, unit := range units {
		if b != 0 && unit.size > 1 && int64(b)%unit.size == 0 {
			return strconv.FormatInt(int64(b)/unit.size, 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

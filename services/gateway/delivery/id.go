package delivery

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	deliveryPrefix   = "dlv-"
	deadLetterPrefix = "dlq-"

	// maxPosition bounds a position, so that a float64 carries one exactly.
	maxPosition = 1 << 53
)

// DeliveryID names an accepted request by the position of its first row, in lower-case base 36.
func DeliveryID(position uint64) string { return deliveryPrefix + strconv.FormatUint(position, 36) }

// ParseDeliveryID is the inverse of DeliveryID. It takes the one canonical spelling only; otherwise ErrBadID.
func ParseDeliveryID(id string) (uint64, error) {
	position, ok := parseID(deliveryPrefix, id)
	if !ok || position >= maxPosition {
		return 0, fmt.Errorf("%w: %.40q", ErrBadID, id)
	}
	return position, nil
}

func deadLetterID(n int64) string { return deadLetterPrefix + strconv.FormatInt(n, 36) }

func parseDeadLetterID(id string) (int64, bool) {
	n, ok := parseID(deadLetterPrefix, id)
	return int64(n), ok && n < maxPosition
}

func parseID(prefix, id string) (uint64, bool) {
	digits, ok := strings.CutPrefix(id, prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 36, 64)
	return n, err == nil && strconv.FormatUint(n, 36) == digits
}

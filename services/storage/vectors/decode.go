package vectors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"strconv"
	"sync/atomic"
	"unicode/utf8"
	"unsafe"

	"golang.org/x/sync/errgroup"
)

// The body of an upsert is nearly all numbers: it is read in one pass, which encoding/json would take several for. It also
// takes the NaN and Infinity that some clients write although JSON has none, to refuse them for what they are.

// reader is a place in a JSON text.
type reader struct {
	text  []byte
	at    int
	depth int
	later []span // where the numbers of each vector are, when they are passed over; nil: they are read as they come
}

// span is a part of a text.
type span struct{ from, to int }

const maxDepth = 64

func (r *reader) wrong(format string, args ...any) error {
	return &MalformedError{Reason: fmt.Sprintf("The body is not valid JSON: "+format, args...), Offset: r.at}
}

// next is the next character that is no space; 0 at the end.
func (r *reader) next() byte {
	for ; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

func (r *reader) want(c byte) error {
	if r.next() != c {
		return r.wrong("%q expected", c)
	}
	r.at++
	return nil
}

// object calls fn with each name; fn reads the value.
func (r *reader) object(place string, fn func(name string) error) error {
	if r.next() != '{' {
		return r.unexpected(place, "an object")
	}
	r.at++
	if r.next() == '}' {
		r.at++
		return nil
	}
	for {
		name, err := r.string("a name")
		if err != nil {
			return err
		}
		if err := r.want(':'); err != nil {
			return err
		}
		if err := fn(name); err != nil {
			return err
		}
		if r.next() == '}' {
			r.at++
			return nil
		}
		if err := r.want(','); err != nil {
			return err
		}
	}
}

// array calls fn before each element; fn reads it.
func (r *reader) array(place string, fn func() error) error {
	if r.next() != '[' {
		return r.unexpected(place, "an array")
	}
	r.at++
	if r.next() == ']' {
		r.at++
		return nil
	}
	for {
		if err := fn(); err != nil {
			return err
		}
		if r.next() == ']' {
			r.at++
			return nil
		}
		if err := r.want(','); err != nil {
			return err
		}
	}
}

// unexpected: a value of another type, if it is one.
func (r *reader) unexpected(place, want string) error {
	if _, err := r.value(); err != nil {
		return err
	}
	return malformed(place, "must be %s", want)
}

func (r *reader) string(place string) (string, error) {
	if r.next() != '"' {
		if place == "a name" {
			return "", r.wrong("a name in quotes expected")
		}
		return "", r.unexpected(place, "a string")
	}
	start := r.at
	r.at++
	plain := true
	for ; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			raw := r.text[start:r.at]
			if plain {
				return string(raw[1 : len(raw)-1]), nil
			}
			var s string
			if err := json.Unmarshal(raw, &s); err != nil {
				r.at = start
				return "", r.wrong("a string cannot be read")
			}
			return s, nil
		case c == '\\':
			plain = false
			r.at++
		case c < ' ':
			return "", r.wrong("a control character in a string")
		}
	}
	r.at = start // a backslash at the end has led beyond it
	return "", r.wrong("a string without an end")
}

// value passes over any value and returns its text.
func (r *reader) value() ([]byte, error) {
	if r.depth++; r.depth > maxDepth {
		return nil, r.wrong("values are nested more than %d deep", maxDepth)
	}
	defer func() { r.depth-- }()
	c := r.next()
	start := r.at
	var err error
	switch {
	case c == '{':
		err = r.object("", func(string) error { _, err := r.value(); return err })
	case c == '[':
		err = r.array("", func() error { _, err := r.value(); return err })
	case c == '"':
		_, err = r.string("")
	case c == 't' && r.word("true"), c == 'f' && r.word("false"), c == 'n' && r.word("null"):
	default:
		_, err = r.digits()
	}
	if err != nil {
		return nil, err
	}
	return r.text[start:r.at], nil
}

func (r *reader) word(w string) bool {
	if len(r.text)-r.at < len(w) || string(r.text[r.at:r.at+len(w)]) != w {
		return false
	}
	r.at += len(w)
	return true
}

// digits passes over a number.
func (r *reader) digits() ([]byte, error) {
	t, i := r.text, r.at
	some := func() bool {
		from := i
		for i < len(t) && t[i]-'0' <= 9 {
			i++
		}
		return i > from
	}
	if i < len(t) && t[i] == '-' {
		i++
	}
	zero := i < len(t) && t[i] == '0'
	from := i
	if !some() || zero && i > from+1 {
		return nil, r.wrong("a value expected")
	}
	if i < len(t) && t[i] == '.' {
		if i++; !some() {
			return nil, r.wrong("a number without digits behind its point")
		}
	}
	if i < len(t) && t[i]|' ' == 'e' {
		if i++; i < len(t) && (t[i] == '+' || t[i] == '-') {
			i++
		}
		if !some() {
			return nil, r.wrong("a number without digits in its exponent")
		}
	}
	number := t[r.at:i]
	r.at = i
	return number, nil
}

// notNumbers are what clients send for what JSON cannot say; null is what JavaScript makes of it.
var notNumbers = []string{"NaN", "Infinity", "-Infinity", "-NaN", "nan", "inf", "-inf", "Inf", "-Inf", "null"}

// floats reads an array of numbers.
func (r *reader) floats(place string, most int) ([]float32, error) {
	numbers := make([]float32, 0, 384)
	err := r.array(place, func() error {
		text, at, taken := r.text, r.at, numbers // at hand: each number begins where the one before it ends
		for len(taken) < most {                  // as they come: a comma behind each, and perhaps a space
			f, length := usual(text[at:])
			if length == 0 {
				break
			}
			taken = append(taken, f)
			if at += length; text[at] != ',' { // usual has seen more text
				r.at, numbers = at, taken
				return nil
			}
			if at++; text[at] == ' ' {
				at++
			}
		}
		r.at, numbers = at, taken
		r.next()
		n := len(numbers)
		if n == most {
			return refused(place, "are more than %d", most)
		}
		number, err := r.digits()
		if err != nil {
			for _, w := range notNumbers {
				if r.word(w) {
					return refused(fmt.Sprintf("%s[%d]", place, n), "is %s, and must be a finite number", w)
				}
			}
			return r.unexpected(fmt.Sprintf("%s[%d]", place, n), "a number")
		}
		f, ok := float32By(number)
		if !ok {
			return refused(fmt.Sprintf("%s[%d]", place, n), "is too large for a 32-bit float")
		}
		numbers = append(numbers, f)
		return nil
	})
	return numbers, err
}

var powers = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16}

// nearest is the float32 nearest to digits, below 2^53, over a power of ten, both exact in a float64: that gives the nearest float64, and
// that the nearest float32, unless it lies in the middle of two. ok is false when it does. negative is 0 or 1.
func nearest(digits uint64, power int, negative uint64) (f float32, ok bool) {
	exact := float64(digits) / powers[power]
	const below = 1<<29 - 1 // the bits that a float32 has not
	if math.Float64bits(exact)&below == 1<<28 || exact != 0 && exact < 1e-37 {
		return 0, false
	}
	return float32(math.Float64frombits(math.Float64bits(exact) | negative<<63)), true
}

// eight reads up to eight digits at the start of eight characters, the first one in the lowest byte, all at once: a loop over digits costs
// a wrong guess of the processor at the end of nearly every number.
func eight(characters uint64) (value uint64, count int) {
	digits := characters ^ 0x3030303030303030
	// The top bit of each byte that is more than 9, and perhaps of some behind the first such.
	others := (digits + 0x7676767676767676 | digits) & 0x8080808080808080
	count = bits.TrailingZeros64(others) >> 3
	digits <<= uint(64 - 8*count) // zeros come before the first digit
	digits = digits*10 + digits>>8
	const pairs = 0x000000FF000000FF
	return ((digits&pairs)*(100+1000000<<32) + (digits>>16&pairs)*(1+10000<<32)) >> 32, count
}

// usual reads a number as nearly all of a vector are: with a point, no exponent, at most 16 digits behind it, and some more text behind
// that. Length 0: it is another one, which is left to strconv, or none.
func usual(text []byte) (f float32, length int) {
	const most = 18 // digits
	if len(text) < 1+most+2 {
		return 0, 0
	}
	i, negative := 0, uint64(0)
	if text[0] == '-' {
		i, negative = 1, 1
	}
	start := i
	var whole uint64
	for ; i < most && text[i]-'0' <= 9; i++ {
		whole = whole*10 + uint64(text[i]-'0')
	}
	if i == start || text[start] == '0' && i > start+1 {
		return 0, 0
	}
	count, power := i-start, 0
	if text[i] == '.' {
		i++
		if len(text)-i < 16+2 {
			return 0, 0
		}
		first, n := eight(binary.LittleEndian.Uint64(text[i:]))
		second, m := eight(binary.LittleEndian.Uint64(text[i+8:]))
		if n < 8 {
			second, m = 0, 0
		}
		if power = n + m; power == 0 || count+power > most {
			return 0, 0
		}
		i += power
		whole = whole*tens[power] + first*tens[m] + second
	}
	if whole >= 1<<53 || text[i]-'0' <= 9 || text[i]|' ' == 'e' {
		return 0, 0
	}
	if f, ok := nearest(whole, power, negative); ok {
		return f, i
	}
	return 0, 0
}

var tens = [...]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16}

// float32By reads any number that digits has passed; false: it is too large. ParseFloat keeps its string only in an error, which is dropped.
func float32By(number []byte) (float32, bool) {
	f, err := strconv.ParseFloat(unsafe.String(&number[0], len(number)), 32)
	return float32(f), err == nil
}

func (r *reader) integer(place string) (int, error) {
	r.next()
	number, err := r.digits()
	if err != nil {
		return 0, r.unexpected(place, "an integer")
	}
	n, err := strconv.Atoi(string(number))
	if err != nil {
		return 0, malformed(place, "must be an integer")
	}
	return n, nil
}

// optional passes over null, which is the same as no member.
func (r *reader) optional() bool { return r.next() == 'n' && r.word("null") }

// share is how much of a body is worth a goroutine.
const share = 256 << 10

// decodeUpsert reads the body of an upsert: a large one with all processors, as nobody else may have a use for them.
func decodeUpsert(body []byte) (*Upsert, error) {
	r := &reader{text: body}
	if !utf8.Valid(body) {
		return nil, r.wrong("it is not UTF-8")
	}
	if n := min(runtime.GOMAXPROCS(0), len(body)/share); n > 1 {
		if u, err := decodeShared(body, n); err == nil {
			return u, nil
		} // the same is wrong below, where it gets its name
	}
	return r.upsert()
}

var errNumbers = errors.New("numbers cannot be passed over")

// decodeShared passes over the numbers first; then n goroutines read them. What it takes, reader.upsert takes, with the same result. Its
// errors say no more than that it did not take it.
func decodeShared(body []byte, n int) (*Upsert, error) {
	head := &reader{text: body, later: make([]span, MaxVectors)}
	u, err := head.upsert()
	if err != nil {
		return nil, err
	}
	var group errgroup.Group
	var begun atomic.Int64
	for range n {
		group.Go(func() error {
			for {
				i := int(begun.Add(1)) - 1
				if i >= len(u.Vectors) {
					return nil
				}
				s := head.later[i]
				if s.to == 0 {
					continue // it has none
				}
				r := &reader{text: body, at: s.from}
				values, err := r.floats("", MaxDimensions)
				if err != nil {
					return err
				}
				if r.at != s.to {
					return errNumbers
				}
				u.Vectors[i].Values = values
			}
		})
	}
	return u, group.Wait()
}

// passOver goes to the end of what should be an array of numbers: numbers hold no bracket.
func (r *reader) passOver(i int) error {
	r.next()
	n := bytes.IndexByte(r.text[r.at:], ']')
	if n < 0 || r.later[i].to > 0 { // a second one of the same vector
		return errNumbers
	}
	r.later[i] = span{r.at, r.at + n + 1}
	r.at += n + 1
	return nil
}

func (r *reader) upsert() (*Upsert, error) {
	u := &Upsert{}
	err := r.object("The body", func(name string) (err error) {
		switch {
		case r.optional():
		case name == "collection":
			u.Collection, err = r.string(name)
		case name == "metric":
			var metric string
			metric, err = r.string(name)
			u.Metric = Metric(metric)
			if err == nil && !u.Metric.known() {
				err = malformed(name, "must be cosine, dot or l2")
			}
		case name == "model":
			u.Model, err = r.string(name)
		case name == "dimensions":
			if u.Dimensions, err = r.integer(name); err == nil && (u.Dimensions < 1 || u.Dimensions > MaxDimensions) {
				err = malformed(name, "must be 1 to %d", MaxDimensions)
			}
		case name == "vectors":
			u.Vectors = u.Vectors[:0]
			err = r.array(name, func() error {
				if len(u.Vectors) == MaxVectors {
					return malformed(name, "must be 1 to %d, and are more", MaxVectors)
				}
				v, err := r.vector(len(u.Vectors))
				u.Vectors = append(u.Vectors, v)
				return err
			})
		default:
			_, err = r.value()
		}
		return err
	})
	return u, r.end(err)
}

func (r *reader) vector(i int) (v Vector, err error) {
	place := func(name string) string { return fmt.Sprintf("vectors[%d].%s", i, name) }
	err = r.object(fmt.Sprintf("vectors[%d]", i), func(name string) (err error) {
		switch name {
		case "id":
			v.ID, err = r.string(place(name))
		case "values":
			if r.later != nil {
				return r.passOver(i)
			}
			v.Values, err = r.floats(place(name), MaxDimensions)
		case "text":
			if !r.optional() {
				v.Text, err = r.string(place(name))
			}
		case "metadata":
			if r.optional() {
				return nil
			}
			if r.next() != '{' {
				return r.unexpected(place(name), "an object")
			}
			var raw []byte
			raw, err = r.value()
			v.Metadata = string(raw)
		default:
			_, err = r.value()
		}
		return err
	})
	return v, err
}

// decodeSearch reads the body of a search.
func decodeSearch(body []byte) (q *Query, includeMetadata bool, err error) {
	r := &reader{text: body}
	if !utf8.Valid(body) {
		return nil, false, r.wrong("it is not UTF-8")
	}
	q, includeMetadata = &Query{TopK: DefaultTopK}, true
	err = r.object("The body", func(name string) (err error) {
		if name != "filter" && r.optional() {
			return nil
		}
		switch name {
		case "collection":
			q.Collection, err = r.string(name)
		case "vector":
			q.Vector, err = r.floats(name, MaxDimensions)
		case "text":
			q.Text, err = r.string(name)
		case "top_k":
			q.TopK, err = r.integer(name)
		case "filter":
			var raw []byte
			if raw, err = r.value(); err == nil {
				q.Filter, err = ParseFilter(raw)
			}
		case "min_score":
			r.next()
			number, wrong := r.digits()
			if wrong != nil {
				return r.unexpected(name, "a number")
			}
			f, _ := strconv.ParseFloat(string(number), 64) // beyond its range: infinite, which compares as it should
			q.MinScore = &f
		case "include_values":
			q.IncludeValues, err = r.bool(name)
		case "include_metadata":
			includeMetadata, err = r.bool(name)
		case "exact":
			q.Exact, err = r.bool(name)
		default:
			_, err = r.value()
		}
		return err
	})
	return q, includeMetadata, r.end(err)
}

func (r *reader) bool(place string) (bool, error) {
	switch {
	case r.next() == 't' && r.word("true"):
		return true, nil
	case r.next() == 'f' && r.word("false"):
		return false, nil
	}
	return false, r.unexpected(place, "a boolean")
}

// end is err, or that something follows.
func (r *reader) end(err error) error {
	if err == nil && (r.next() != 0 || r.at < len(r.text)) {
		return r.wrong("something follows its end")
	}
	return err
}

// reasonOf is the error of this package, if it is one.
func reasonOf(err error) (m *MalformedError, r *RefusedError) {
	errors.As(err, &m)
	errors.As(err, &r)
	return m, r
}

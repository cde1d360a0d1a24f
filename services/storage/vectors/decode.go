package vectors

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
	"unsafe"
)

// The body of an upsert is nearly all numbers: it is read in one pass, which encoding/json would take several for. It also
// takes the NaN and Infinity that some clients write although JSON has none, to refuse them for what they are.

// reader is a place in a JSON text.
type reader struct {
	text  []byte
	at    int
	depth int
}

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

// floats appends the numbers of an array to dst.
func (r *reader) floats(dst []float32, place string, most int) ([]float32, error) {
	n := 0
	err := r.array(place, func() error {
		for { // as they come: a comma behind each, and perhaps a space
			f, length := usual(r.text[r.at:])
			if length == 0 || n == most {
				break
			}
			r.at += length
			dst = append(dst, f)
			n++
			next := r.text[r.at:]
			if len(next) < 2 || next[0] != ',' {
				return nil
			}
			if r.at++; next[1] == ' ' {
				r.at++
			}
		}
		r.next()
		if n++; n > most {
			return refused(place, "are more than %d", most)
		}
		number, err := r.digits()
		if err != nil {
			for _, w := range notNumbers {
				if r.word(w) {
					return refused(fmt.Sprintf("%s[%d]", place, n-1), "is %s, and must be a finite number", w)
				}
			}
			return r.unexpected(fmt.Sprintf("%s[%d]", place, n-1), "a number")
		}
		f, ok := float32By(number)
		if !ok {
			return refused(fmt.Sprintf("%s[%d]", place, n-1), "is too large for a 32-bit float")
		}
		dst = append(dst, f)
		return nil
	})
	return dst, err
}

var powers = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// nearest is the float32 nearest to digits, below 2^53, over a power of ten, both exact in a float64: that gives the nearest float64, and
// that the nearest float32, unless it lies in the middle of two. ok is false when it does.
func nearest(digits uint64, power int, negative bool) (f float32, ok bool) {
	exact := float64(digits) / powers[power]
	if negative {
		exact = -exact
	}
	const below = 1<<29 - 1 // the bits that a float32 has not
	if math.Float64bits(exact)&below == 1<<28 || exact != 0 && math.Abs(exact) < 1e-37 {
		return 0, false
	}
	return float32(exact), true
}

// usual reads a number as nearly all of a vector are, with at most 18 digits and no exponent, in one pass over its text. Length 0: it is
// another one, which is left to strconv, or none.
func usual(text []byte) (f float32, length int) {
	i := 0
	if len(text) > 0 && text[0] == '-' {
		i = 1
	}
	start := i
	var digits uint64
	for ; i < len(text) && text[i]-'0' <= 9; i++ {
		digits = digits*10 + uint64(text[i]-'0')
	}
	count, power := i-start, 0
	if count == 0 || text[start] == '0' && count > 1 {
		return 0, 0
	}
	if i < len(text) && text[i] == '.' {
		i++
		from := i
		for ; i < len(text) && text[i]-'0' <= 9; i++ {
			digits = digits*10 + uint64(text[i]-'0')
		}
		power = i - from
		if count += power; power == 0 {
			return 0, 0
		}
	}
	if count > 18 || digits >= 1<<53 || i < len(text) && text[i]|' ' == 'e' {
		return 0, 0
	}
	if f, ok := nearest(digits, power, start == 1); ok {
		return f, i
	}
	return 0, 0
}

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

// decodeUpsert reads the body of an upsert.
func decodeUpsert(body []byte) (*Upsert, error) {
	r := &reader{text: body}
	if !utf8.Valid(body) {
		return nil, r.wrong("it is not UTF-8")
	}
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
			v.Values, err = r.floats(make([]float32, 0, 384), place(name), MaxDimensions)
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
			q.Vector, err = r.floats(make([]float32, 0, 384), name, MaxDimensions)
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

package vectors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// What is read is what encoding/json reads; what it refuses is refused.
func FuzzDecodeUpsert(f *testing.F) {
	f.Add([]byte(three))
	f.Add([]byte(`{"collection":"\u00e9","metric":"dot","dimensions":2,"vectors":[{"id":"a","values":[-0.5e-3, 1E2],"metadata":{"a":[{}]},"text":null}],"more":[1,{"a":"b"}]}`))
	f.Add([]byte(`{"vectors":[{"values":[NaN]}]}`))
	f.Add([]byte(`"a\`)) // ends behind a backslash
	f.Add([]byte(`{"collection":"a\ud800","vectors":[{"id":"\\","values":[1e400]}]}`))
	f.Add([]byte(`{"vectors":[{"id":"a","values":[1,"]",2]},{"values":[1],"values":[x]},{"values":null},{"values":{"a":[1]}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		u, err := decodeUpsert(body)
		if shared, wrong := decodeShared(body, 2); wrong == nil && utf8.Valid(body) { // which decodeUpsert has seen to
			require.NoError(t, err)
			require.True(t, reflect.DeepEqual(u, shared), "%v is not %v", shared, u)
		}
		if err != nil {
			m, r := reasonOf(err)
			require.True(t, m != nil || r != nil, "%v", err)
			return
		}
		type vector struct {
			ID       *string         `json:"id"`
			Values   []float32       `json:"values"`
			Metadata json.RawMessage `json:"metadata"`
			Text     *string         `json:"text"`
		}
		require.True(t, json.Valid(body), "%q", body)
		var names map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(body, &names))
		raw, ok := names["vectors"]
		if !ok || string(raw) == "null" || repeated(body) {
			return
		}
		var want []vector
		require.NoError(t, json.Unmarshal(raw, &want), "%q", raw)
		require.Len(t, u.Vectors, len(want))
		for i, w := range want {
			got := u.Vectors[i]
			if w.ID != nil {
				require.Equal(t, *w.ID, got.ID)
			}
			require.Len(t, got.Values, len(w.Values))
			for k := range w.Values {
				require.Equal(t, math.Float32bits(w.Values[k]), math.Float32bits(got.Values[k]))
			}
			if got.Metadata != "" {
				require.JSONEq(t, string(w.Metadata), got.Metadata)
			}
		}
	})
}

func TestWhatIsWrongInALargeBodyIsNamed(t *testing.T) {
	body := []byte(`{"collection":"c","vectors":[`)
	for i := range MaxVectors {
		body = fmt.Appendf(body, `{"id":"%d","values":[%s0.5]},`, i, strings.Repeat("-1.25, ", 200))
	}
	body = append(body[:len(body)-1], "]}"...)
	require.Greater(t, len(body), 4*share)
	u, err := decodeUpsert(body)
	require.NoError(t, err)
	require.Len(t, u.Vectors, MaxVectors)
	for i, v := range u.Vectors {
		require.Equal(t, strconv.Itoa(i), v.ID)
		require.Len(t, v.Values, 201)
		require.EqualValues(t, -1.25, v.Values[199])
		require.EqualValues(t, 0.5, v.Values[200])
	}
	at := bytes.Index(body, []byte(`"700"`))
	for wrong, want := range map[string]string{
		"NaN": "vectors[700].values[0] is NaN, and must be a finite number", "1e39": "vectors[700].values[0] is too large for a 32-bit float",
		`"]"`: "vectors[700].values[0] must be a number", "[1]": "vectors[700].values[0] must be a number", "00": "a value expected",
	} {
		spoiled := append(append(append([]byte(nil), body[:at]...), bytes.Replace(body[at:at+100], []byte("-1.25"), []byte(wrong), 1)...), body[at+100:]...)
		_, err := decodeUpsert(spoiled)
		require.ErrorContains(t, err, want, wrong)
	}
}

// repeated: a name stands twice in an object, or is written in another case, where encoding/json goes its own ways.
func repeated(body []byte) bool {
	for _, name := range []string{"id", "values", "metadata", "text", "vectors"} {
		if bytes.Count(bytes.ToLower(body), []byte(name)) != bytes.Count(body, []byte(`"`+name+`"`)) {
			return true
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	var walk func() bool
	walk = func() bool {
		token, err := decoder.Token()
		if err != nil {
			return true
		}
		open, ok := token.(json.Delim)
		if !ok {
			return false
		}
		seen := map[string]bool{}
		for decoder.More() {
			if open == '{' {
				name, err := decoder.Token()
				if err != nil || seen[name.(string)] {
					return true
				}
				seen[name.(string)] = true
			}
			if walk() {
				return true
			}
		}
		_, err = decoder.Token()
		return err != nil
	}
	return walk()
}

// A filter that is taken holds or not, whatever the metadata; as a column it says the same.
func FuzzFilter(f *testing.F) {
	f.Add(`{"a":1}`, `{"a":1.0}`)
	f.Add(`{"a":{"$in":["x",null,true,2.5]},"b":{"$gte":-1e300,"$lt":9007199254740993}}`, `{"a":"x","b":9007199254740992}`)
	f.Add(`{"a":{"$gt":"b"}}`, `{"a":["b"]}`)
	f.Fuzz(func(t *testing.T, filter, metadata string) {
		got, err := ParseFilter([]byte(filter))
		if err != nil {
			var m *MalformedError
			require.True(t, errors.As(err, &m), "%v", err)
			return
		}
		if !json.Valid([]byte(metadata)) || !strings.HasPrefix(strings.TrimSpace(metadata), "{") || got == nil {
			return
		}
		c := newCollection(&head{dimensions: 1, metric: Dot}, 100)
		c.apply([]row{{id: "x", metadata: metadata, values: []float32{1}}, {id: "y", values: []float32{1}}})
		c.readColumns(got)
		require.Equal(t, got.matches(metadata), c.under(got).has(0))
		require.False(t, c.under(got).has(1), "no metadata fulfil nothing")
	})
}

func TestFiltersCompareByValue(t *testing.T) {
	for _, c := range []struct {
		filter, metadata string
		want             bool
	}{
		{`{"n":1}`, `{"n":1.0}`, true}, {`{"n":1}`, `{"n":"1"}`, false}, {`{"n":1}`, `{"n":true}`, false}, {`{"n":1}`, `{"m":1}`, false},
		{`{"n":9007199254740993}`, `{"n":9007199254740993}`, true}, {`{"n":9007199254740993}`, `{"n":9007199254740992}`, false},
		{`{"n":{"$gt":9007199254740992}}`, `{"n":9007199254740993}`, true}, {`{"n":{"$gt":1e300}}`, `{"n":9223372036854775807}`, false},
		{`{"n":{"$lt":1.5}}`, `{"n":1}`, true}, {`{"n":{"$lt":-1.5}}`, `{"n":-2}`, true}, {`{"n":{"$lt":-1.5}}`, `{"n":-1}`, false},
		{`{"n":{"$gte":2,"$lte":2}}`, `{"n":2}`, true}, {`{"n":{"$gte":2,"$lt":2}}`, `{"n":2}`, false},
		{`{"s":{"$gte":"b"}}`, `{"s":"bb"}`, true}, {`{"s":{"$gte":"b"}}`, `{"s":"a"}`, false}, {`{"s":{"$gte":"b"}}`, `{"s":7}`, false},
		{`{"b":true}`, `{"b":true}`, true}, {`{"b":true}`, `{"b":false}`, false}, {`{"b":null}`, `{"b":null}`, true}, {`{"b":null}`, `{}`, false},
		{`{"s":{"$in":["x","y"]},"n":1}`, `{"s":"y","n":1}`, true}, {`{"s":{"$in":["x","y"]},"n":1}`, `{"s":"y","n":2}`, false}, {`{"s":{"$in":[]}}`, `{"s":"y"}`, false},
		{`{"s":{"$eq":"é"}}`, `{"s":"\u00e9"}`, true}, {`{"l":"a"}`, `{"l":["a"]}`, false}, {`{"n":1}`, ``, false},
	} {
		f, err := ParseFilter([]byte(c.filter))
		require.NoError(t, err, c.filter)
		require.Equal(t, c.want, f.matches(c.metadata), "%s of %s", c.filter, c.metadata)
	}
}

func TestNumbersAreTheNearestFloats(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	taken := 0
	const more = ",-0.25,7.125]},{" // as much as a number wants to have behind it
	check := func(text string) {
		got, length := usual([]byte(text + more))
		if length == 0 {
			return
		}
		taken++
		want, err := strconv.ParseFloat(text, 32)
		require.NoError(t, err, text)
		require.Equal(t, len(text), length, text)
		require.Equal(t, math.Float32bits(float32(want)), math.Float32bits(got), text)
	}
	for range 100_000 {
		f := math.Float32frombits(r.Uint32())
		if f != f || math.IsInf(float64(f), 0) {
			continue
		}
		for _, format := range []byte{'g', 'f', 'e'} {
			check(strconv.FormatFloat(float64(f), format, -1, 32))
			check(strconv.FormatFloat(float64(f), format, -1, 64))
		}
		small := r.NormFloat64()
		check(strconv.FormatFloat(small, 'f', r.IntN(20), 64))
		next := math.Nextafter32(float32(small), 2) // the middle of two floats, and right beside it
		check(strconv.FormatFloat((float64(float32(small))+float64(next))/2, 'f', -1, 64))
		check(strconv.FormatFloat((float64(float32(small))+float64(next))/2, 'f', -1, 64) + "1")
	}
	for _, text := range []string{"", "-", ".5", "5.", "-.5", "01", "-00", "1e5", "1.5E5", "1234567890123456789", "0.0000000000000000001", "9007199254740993", "x"} {
		for _, behind := range []string{"", ",", more} {
			_, length := usual([]byte(text + behind))
			require.Zero(t, length, text+behind)
		}
	}
	for _, text := range []string{"0", "-0", "0.0", "16777217", "16777217.0000000001", "9007199254740993", "3.4028236e38", "1e39", "1e-46", "340282356779733661637539395458142568448"} {
		check(text)
	}
	require.Greater(t, taken, 100_000)
	for range 100_000 {
		characters := binary.LittleEndian.AppendUint64(nil, r.Uint64())
		for i := range r.IntN(9) {
			characters[i] = '0' + byte(r.IntN(10))
		}
		count := bytes.IndexFunc(characters, func(c rune) bool { return c < '0' || c > '9' })
		if count < 0 {
			count = 8
		}
		want, _ := strconv.ParseUint(string(characters[:count]), 10, 64) // no digit: 0
		got, n := eight(binary.LittleEndian.Uint64(characters))
		require.Equal(t, count, n, "%q", characters)
		require.Equal(t, want, got, "%q", characters)
	}
}

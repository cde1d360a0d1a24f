package conformance

import (
	"fmt"
	"strings"
	"time"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// frame makes a frame of JSON rows at the next free positions. The rule's id is in the uuid, for whoever looks at the
// destination.
func (s *suite) frame(rule string, rows ...string) protocol.Frame {
	f := protocol.Frame{
		OrgID: 1, UserID: 7, UUID: "conformance-" + rule, Position: s.position, RequestID: "conformance",
		ReceivedAt: time.Now().UTC().Truncate(time.Microsecond),
	}
	for _, row := range rows {
		f.Data = append(f.Data, row...)
		f.Ends = append(f.Ends, uint32(len(f.Data)))
	}
	s.position += uint64(len(rows))
	return f
}

// plain makes n frames of three plain rows each.
func (s *suite) plain(rule string, n int) []protocol.Frame {
	frames := make([]protocol.Frame, n)
	for i := range frames {
		rows := make([]string, 3)
		for r := range rows {
			rows[r] = fmt.Sprintf(`{"n":%d,"text":"row %d of frame %d","flag":true,"list":[1,2.5,null]}`, i*3+r, r, i)
		}
		frames[i] = s.frame(rule, rows...)
	}
	return frames
}

// pack cuts frames into batches that keep the plugin's limits: frames that fit share a batch of at most perBatch frames.
func pack(frames []protocol.Frame, limits protocol.Limits, perBatch int) [][]protocol.Frame {
	var batches [][]protocol.Frame
	var batch []protocol.Frame
	rows, bytes := 0, 0
	flush := func() {
		if len(batch) > 0 {
			batches = append(batches, batch)
		}
		batch, rows, bytes = nil, 0, 0
	}
	over := func(rows, bytes int) bool {
		return limits.MaxBatchRows > 0 && rows > int(limits.MaxBatchRows) || limits.MaxBatchBytes > 0 && uint64(bytes) > limits.MaxBatchBytes
	}
	for _, f := range frames {
		from := 0
		for from < f.Len() {
			to, size := from, 0
			for to < f.Len() && !over(rows+to-from+1, bytes+size+len(f.Row(to))) {
				size += len(f.Row(to))
				to++
			}
			if to == from {
				if rows > 0 {
					flush()
					continue
				}
				to, size = from+1, len(f.Row(from)) // a row beyond the limit goes alone
			}
			batch = append(batch, f.Slice(from, to))
			rows, bytes = rows+to-from, bytes+size
			if from = to; from < f.Len() {
				flush()
			}
		}
		if len(batch) >= perBatch {
			flush()
		}
	}
	flush()
	return batches
}

// oddRows are JSON values that a gateway accepts as rows, each for a reason.
func oddRows() []string {
	return []string{
		`{}`, `{"":""}`,
		`{"text":"a NUL \u0000, a bell \u0007, a tab \t, a quote \", a backslash \\"}`,
		`{"lone":"\ud800","reversed":"\udc00\ud800"}`, // escapes of half a character
		`{"key":1,"key":2,"key":{"key":3}}`,           // names that come twice
		`{"huge":123456789012345678901234567890123456789012345678901234567890,"tiny":1e-999,"beyond":1e999,"minus":-0,"exact":0.1000000000000000055511151231257827}`,
		"{\"four bytes\":\"\U0001F600 \U0001D518 \U0001F3F3\uFE0F\u200D\U0001F308\",\"bidi\":\"\u202Eabc\u202C\",\"combined\":\"e\u0301 \u00E9\"}",
		` { "spaces" : [ 1 , 2 ] } `, "{\"lines\":\r\n\t[true]\n}",
		`{"html":"<script>&amp;'\"</script>","sql":"'; DROP TABLE rows; --","csv":"=1+1,\"a\",\nb","path":"../../etc/passwd","format":"%s%n{uuid}${HOME}"}`,
		`{"empty list":[],"empty object":{},"nothing":null,"yes":true,"no":false}`,
		`{"poison":null,"__proto__":{"a":1},"constructor":1,"$ref":"#/","position":1,"uuid":2,"data":3}`,
		`{"deep":` + strings.Repeat(`[`, 127) + strings.Repeat(`]`, 127) + `}`,
		`{"deeper":` + strings.Repeat(`{"a":`, 126) + `1` + strings.Repeat(`}`, 126) + `}`,
		`{"` + strings.Repeat("long name ", 500) + `":1}`,
		`{"odd":true}`,
	}
}

// bareRows are rows that are no objects.
func bareRows() []string {
	return []string{`null`, `true`, `0`, `-1.5e300`, `"text"`, `""`, `[]`, `[1,[2,{"a":[]}]]`}
}

// oddUUIDs are uuids that a client may send.
func oddUUIDs() []string {
	return []string{
		"we\\ird\t\"uuid\"\n", "../..", "con", " ", "ünïcödé 😀", "%2e%2e/", "{org}", strings.Repeat("long-", 50),
	}
}

package wire

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// maxMessages bounds the text of one acknowledgement, bytes, so that it never outgrows protocol.MaxMessage: a hundred
// thousand rows that failed with the same long text must still be acknowledged.
const maxMessages = 16 << 20

// batchesIn makes the plain Go form of the batches of one message.
func batchesIn(list ...*pluginv1.Batch) ([]protocol.Batch, error) {
	batches := make([]protocol.Batch, len(list))
	for i, m := range list {
		var err error
		if batches[i], err = batchIn(m); err != nil {
			return nil, err
		}
	}
	return batches, nil
}

// batchIn takes the message's slices over: the one copy was made when protobuf decoded it.
func batchIn(m *pluginv1.Batch) (protocol.Batch, error) {
	b := protocol.Batch{Seq: m.Seq, Ordered: m.Ordered, Frames: make([]protocol.Frame, len(m.Frames))}
	for i, p := range m.Frames {
		if p == nil {
			return b, fmt.Errorf("%w: batch %d, frame %d is missing", protocol.ErrMalformed, m.Seq, i)
		}
		f := &b.Frames[i]
		f.OrgID = p.OrgId
		f.UserID = p.UserId
		f.UUID = p.Uuid
		f.Position = p.Position
		f.ReceivedAt = time.Unix(0, p.ReceivedAt).UTC()
		f.Data = p.Data
		f.Ends = p.Ends
		if len(p.Index) != 0 {
			f.Index = p.Index
		}
		if len(p.Trigger) != 0 {
			f.Trigger = p.Trigger
		}
		f.RequestID = p.RequestId
		f.TraceParent = p.TraceParent
	}
	return b, check(&b)
}

// check refuses frames whose ends do not describe their data, so that no row can be read out of bounds later.
func check(b *protocol.Batch) error {
	for i := range b.Frames {
		f := &b.Frames[i]
		last := uint32(0)
		for _, end := range f.Ends {
			if end < last {
				return fmt.Errorf("%w: batch %d, frame %d: ends are not in order", protocol.ErrMalformed, b.Seq, i)
			}
			last = end
		}
		if uint64(last) > uint64(len(f.Data)) {
			return fmt.Errorf("%w: batch %d, frame %d: a row ends at byte %d of %d", protocol.ErrMalformed, b.Seq, i, last, len(f.Data))
		}
		if len(f.Index) != 0 && len(f.Index) != len(f.Ends) {
			return fmt.Errorf("%w: batch %d, frame %d: %d indices for %d rows", protocol.ErrMalformed, b.Seq, i, len(f.Index), len(f.Ends))
		}
		for _, index := range f.Index {
			if index < protocol.NoIndex {
				return fmt.Errorf("%w: batch %d, frame %d: index %d", protocol.ErrMalformed, b.Seq, i, index)
			}
		}
	}
	return nil
}

// The classes on the wire and in Go. Delivered is silence, Poison the host's own: neither travels.
var (
	classOut = map[protocol.Class]pluginv1.OutcomeClass{
		protocol.Retry:           pluginv1.OutcomeClass_OUTCOME_CLASS_RETRY,
		protocol.Throttled:       pluginv1.OutcomeClass_OUTCOME_CLASS_THROTTLED,
		protocol.Rejected:        pluginv1.OutcomeClass_OUTCOME_CLASS_REJECTED,
		protocol.Unauthenticated: pluginv1.OutcomeClass_OUTCOME_CLASS_UNAUTHENTICATED,
		protocol.Duplicate:       pluginv1.OutcomeClass_OUTCOME_CLASS_DUPLICATE,
		protocol.Skipped:         pluginv1.OutcomeClass_OUTCOME_CLASS_SKIPPED,
	}
	classIn = map[pluginv1.OutcomeClass]protocol.Class{
		pluginv1.OutcomeClass_OUTCOME_CLASS_RETRY:           protocol.Retry,
		pluginv1.OutcomeClass_OUTCOME_CLASS_THROTTLED:       protocol.Throttled,
		pluginv1.OutcomeClass_OUTCOME_CLASS_REJECTED:        protocol.Rejected,
		pluginv1.OutcomeClass_OUTCOME_CLASS_UNAUTHENTICATED: protocol.Unauthenticated,
		pluginv1.OutcomeClass_OUTCOME_CLASS_DUPLICATE:       protocol.Duplicate,
		pluginv1.OutcomeClass_OUTCOME_CLASS_SKIPPED:         protocol.Skipped,
	}
)

func ackOut(a protocol.Ack) (*pluginv1.Ack, error) {
	if a.Window < 0 {
		return nil, fmt.Errorf("%w: window %d", protocol.ErrMalformed, a.Window)
	}
	m := &pluginv1.Ack{ThroughSeq: a.ThroughSeq, Window: uint32(min(a.Window, math.MaxInt32))}
	if len(a.Outcomes) == 0 {
		return m, nil
	}
	room := min(4<<10, max(64, maxMessages/len(a.Outcomes)))
	outcomes := make([]pluginv1.Outcome, len(a.Outcomes))
	m.Outcomes = make([]*pluginv1.Outcome, len(a.Outcomes))
	for i, o := range a.Outcomes {
		class, ok := classOut[o.Class]
		if !ok {
			return nil, fmt.Errorf("%w: position %d, row %d has class %s", protocol.ErrMalformed, o.Position, o.Row, o.Class)
		}
		if o.Row < 0 || o.Row > math.MaxInt32 {
			return nil, fmt.Errorf("%w: position %d has an outcome for row %d", protocol.ErrMalformed, o.Position, o.Row)
		}
		p := &outcomes[i]
		p.Position = o.Position
		p.Row = uint32(o.Row)
		p.Class = class
		p.Code = text(cut(o.Code, 64))
		p.Message = text(cut(o.Message, room))
		p.RetryAfterMs = millis(o.RetryAfter)
		m.Outcomes[i] = p
	}
	return m, nil
}

func ackIn(m *pluginv1.Ack) (protocol.Ack, error) {
	a := protocol.Ack{ThroughSeq: m.ThroughSeq, Window: int(min(m.Window, math.MaxInt32))}
	if len(m.Outcomes) == 0 {
		return a, nil
	}
	a.Outcomes = make([]protocol.Outcome, len(m.Outcomes))
	for i, p := range m.Outcomes {
		if p == nil {
			return protocol.Ack{}, fmt.Errorf("%w: ack %d: outcome %d is missing", protocol.ErrMalformed, m.ThroughSeq, i)
		}
		class, ok := classIn[p.Class]
		if !ok {
			return protocol.Ack{}, fmt.Errorf("%w: ack %d: position %d, row %d has outcome class %d", protocol.ErrMalformed, m.ThroughSeq, p.Position, p.Row, int32(p.Class))
		}
		if p.Row > math.MaxInt32 {
			return protocol.Ack{}, fmt.Errorf("%w: ack %d: position %d has an outcome for row %d", protocol.ErrMalformed, m.ThroughSeq, p.Position, p.Row)
		}
		a.Outcomes[i] = protocol.Outcome{
			Position: p.Position, Row: int(p.Row), Class: class, Code: p.Code, Message: p.Message,
			RetryAfter: time.Duration(p.RetryAfterMs) * time.Millisecond,
		}
	}
	return a, nil
}

var (
	kindOut = map[protocol.Kind]pluginv1.Kind{
		protocol.KindPusher:    pluginv1.Kind_KIND_PUSHER,
		protocol.KindConnector: pluginv1.Kind_KIND_CONNECTOR,
		protocol.KindStorage:   pluginv1.Kind_KIND_STORAGE,
		protocol.KindEngine:    pluginv1.Kind_KIND_ENGINE,
	}
	kindIn = map[pluginv1.Kind]protocol.Kind{
		pluginv1.Kind_KIND_PUSHER:    protocol.KindPusher,
		pluginv1.Kind_KIND_CONNECTOR: protocol.KindConnector,
		pluginv1.Kind_KIND_STORAGE:   protocol.KindStorage,
		pluginv1.Kind_KIND_ENGINE:    protocol.KindEngine,
	}
)

func limitsOut(l protocol.Limits) *pluginv1.Limits {
	return &pluginv1.Limits{MaxBatchBytes: l.MaxBatchBytes, MaxBatchRows: l.MaxBatchRows}
}

func limitsIn(l *pluginv1.Limits) protocol.Limits {
	return protocol.Limits{MaxBatchBytes: l.GetMaxBatchBytes(), MaxBatchRows: l.GetMaxBatchRows()}
}

// text makes a string that protobuf accepts: error texts of destinations hold any bytes, and one of them must not break
// the stream.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func texts(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = text(s)
	}
	return out
}

// cut shortens s to about n bytes and says so.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// millis rounds up, so that "not before 1.2 ms" is never sent as 1 ms.
func millis(d time.Duration) uint32 {
	if d <= 0 {
		return 0
	}
	ms := d / time.Millisecond
	if d%time.Millisecond > 0 {
		ms++
	}
	return uint32(min(ms, math.MaxUint32))
}

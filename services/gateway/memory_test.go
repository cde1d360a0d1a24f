package gateway

import (
	"runtime"
	"strings"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/gateway/intake"
)

func TestALargeBodyIsFreeOnceItsBudgetIs(t *testing.T) {
	for name, end := range map[string]string{"accepted": `"}}}`, "refused": ``} {
		t.Run(name, func(t *testing.T) {
			text := `{"uuid":"u","row":{"data":{"a":"` + strings.Repeat("x", 2*smallBody) + end
			m, l := newMemory(DefaultMaxBody), &loan{}
			require.NoError(t, m.reserve(t.Context(), l, int64(len(text))))
			l.body = append(make([]byte, 0, len(text)+intake.Pad), text...)
			body := weak.Make(&l.body[0])
			rows, err := l.parser.Parse(l.body, intake.Options{})
			require.Equal(t, end == "", err != nil)
			if err == nil {
				l.record.Data, l.record.Ends = rows.Data, rows.Ends
			}

			m.freeBody(l)
			runtime.GC()
			require.Nil(t, body.Value(), "nothing of the request holds it")
			runtime.KeepAlive(l)
		})
	}
}

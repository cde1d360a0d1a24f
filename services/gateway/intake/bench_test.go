package intake

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// batch makes a request of rows with 256 bytes of data each: short strings and numbers.
func batch(rows int) []byte {
	var b strings.Builder
	b.WriteString(`{"uuid":"0123456789abcdef","rows":[`)
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		data := fmt.Sprintf(`{"timeElapsed":"%d.250","odMeasured":0.%04d,"odSetpoint":0.5,"temperature":36.98,"pumpOneActive":true,"led395NmSetpoint":"0.00","fp1Emit1":1234,"stirRate":8.5e2,"note":"steady state","error":null,"batchNumber":%d,"pad":"`, i, i%10000, i)
		b.WriteString(`{"index":` + fmt.Sprint(i) + `,"data":` + data + strings.Repeat("x", max(0, 256-len(data)-2)) + `"}}`)
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}

func BenchmarkIntake(b *testing.B) {
	for _, rows := range []int{1, 100, 1000} {
		body := batch(rows)
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			var p Parser
			buffer := make([]byte, len(body)+Pad)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				copy(buffer, body)
				if _, err := p.Parse(buffer[:len(body)], Options{Form: Batch, MaxRows: 10000}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkValid is the measure to compare with: the standard library's validation alone.
func BenchmarkValid(b *testing.B) {
	body := batch(100)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if !json.Valid(body) {
			b.Fatal("not valid")
		}
	}
	b.ReportMetric(100*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

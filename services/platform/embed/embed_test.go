package embed_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/services/platform/embed"
)

func cosine(a, b string) (sum float64) {
	x, y := embed.Text(a), embed.Text(b)
	for i := range x {
		sum += float64(x[i]) * float64(y[i])
	}
	return sum
}

func TestVectorsAreOfLengthOneAndAlwaysTheSame(t *testing.T) {
	for _, text := range []string{"a", "customer orders", "Größe der Ölpumpe", "数据 网关", strings.Repeat("long text ", 5000)} {
		v := embed.Text(text)
		require.Len(t, v, embed.Dimensions)
		var square float64
		for _, f := range v {
			square += float64(f) * float64(f)
		}
		require.InDelta(t, 1, math.Sqrt(square), 1e-5)
		for range 5 {
			require.Equal(t, v, embed.Text(text))
		}
	}
	require.Equal(t, make([]float32, embed.Dimensions), embed.Text(" ?!- "))
}

// Stored vectors outlive this program: what makes them must not change under the same name.
func TestTheModelIsTheOneOfItsName(t *testing.T) {
	v := embed.Text("Rivergate")
	require.Equal(t, "hashed-ngrams-384-v1", embed.Model)
	var at []int
	for i, f := range v {
		if f != 0 {
			at = append(at, i)
		}
	}
	require.Equal(t, []int{10, 15, 31, 59, 65, 72, 86, 93, 109, 111, 120, 122, 134, 145, 163, 201, 207, 227, 252, 283, 284, 292, 355, 356, 361}, at)
}

func TestSharedWordsAreNear(t *testing.T) {
	require.Greater(t, cosine("customer orders by date", "orders of a customer"), cosine("customer orders by date", "temperature of the reactor"))
	require.Greater(t, cosine("temperature", "temperatures"), 0.5, "an ending more")
	require.Greater(t, cosine("CUSTOMER_ID", "customer id"), 0.99)
	require.Less(t, math.Abs(cosine("plate", "invoice")), 0.3)
}

package cache

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/settings"
)

func TestAnAddressIsChecked(t *testing.T) {
	for _, good := range []string{"redis://127.0.0.1:6379/0", "rediss://u:p@h:1", "unix:///run/redis.sock"} {
		require.Empty(t, CheckURL(good))
	}
	for _, bad := range []string{"http://s3cret@h", "redis://u:s3cret@h:x y", "127.0.0.1:6379"} {
		require.NotEmpty(t, CheckURL(bad), bad)
		require.NotContains(t, CheckURL(bad), "s3cret")
		_, err := Open(context.Background(), Options{URL: settings.Secret(bad)})
		require.Error(t, err)
		require.NotContains(t, err.Error(), "s3cret")
	}
}

func TestARedisThatGoesAndComesBack(t *testing.T) {
	s := alone(t)
	r := open(t, Options{URL: settings.Secret("redis://" + s.address), OrgBytes: 1 << 20}) // it is not there yet
	ctx := context.Background()
	down := func() {
		t.Helper()
		_, err := r.Set(ctx, 1, "k", []byte(`1`), Keep{})
		require.ErrorIs(t, err, ErrUnavailable)
		_, _, err = r.Get(ctx, 1, "k")
		require.ErrorIs(t, err, ErrUnavailable)
		_, err = r.Delete(ctx, 1, "k")
		require.ErrorIs(t, err, ErrUnavailable)
		_, err = r.InvalidateTag(ctx, 1, "t")
		require.ErrorIs(t, err, ErrUnavailable)
		value, err := r.GetOrLoad(ctx, 1, "k", Keep{}, func(context.Context) (json.RawMessage, error) { return json.RawMessage(`2`), nil })
		require.NoError(t, err, "a service that caches goes on without")
		require.Equal(t, `2`, string(value))
	}
	up := func() {
		t.Helper()
		require.Eventually(t, func() bool {
			_, err := r.Set(ctx, 1, "k", []byte(`1`), Keep{Tags: []string{"t"}})
			return err == nil
		}, 30*time.Second, 10*time.Millisecond)
		require.Equal(t, `1`, r.value(1, "k"))
		require.EqualValues(t, 1, r.Stats().Entries)
	}
	down()
	s.run()
	up()
	s.kill()
	down()
	require.EqualValues(t, 1, r.Stats().Entries, "as last known")
	s.run()
	up()
}

func TestARedisThatSaysNothingHoldsNobody(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	r := open(t, Options{URL: settings.Secret("redis://" + listener.Addr().String()), OrgBytes: 1 << 20})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, _, err = r.Get(ctx, 1, "k")
	require.ErrorIs(t, err, ErrUnavailable)
}

func TestARedisThatRefuses(t *testing.T) {
	s := alone(t, "--requirepass", "right", "--maxmemory", "6mb", "--maxmemory-policy", "noeviction")
	s.run()
	ctx := context.Background()
	wrong := open(t, Options{URL: settings.Secret("redis://:wr0ng@" + s.address), OrgBytes: 1 << 20})
	_, err := wrong.Set(ctx, 1, "k", []byte(`1`), Keep{})
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorContains(t, err, "WRONGPASS")
	require.NotContains(t, err.Error(), "wr0ng")

	full := open(t, Options{URL: settings.Secret("redis://:right@" + s.address), OrgBytes: 64 << 20})
	full.put(1, "first", `1`)
	value := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	for i := 0; err == nil || !strings.Contains(err.Error(), "OOM"); i++ {
		require.Less(t, i, 20, "it is never full")
		_, err = full.Set(ctx, 1, strings.Repeat("k", i+1), value, Keep{})
	}
	require.ErrorIs(t, err, ErrUnavailable)
	require.Equal(t, `1`, full.value(1, "first"), "what is there is still served")
	require.True(t, full.deleted(1, "k"), "and can be thrown out")
}

func TestRedisFreesWhatHasExpiredByItself(t *testing.T) {
	url := shared(t)
	client := connect(t, url)
	r := open(t, Options{URL: settings.Secret(url), OrgBytes: 1 << 20})
	ctx := context.Background()
	e := r.put(1, "k", `1`, Keep{TTL: time.Hour, Tags: []string{"t"}})
	keys, err := client.Keys(ctx, "*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		at, err := client.PExpireTime(ctx, key).Result()
		require.NoError(t, err)
		switch {
		case strings.HasSuffix(key, ":value:k"):
			require.EqualValues(t, e.Expires.UnixMilli(), at.Milliseconds())
		case strings.HasPrefix(key, redisPrefix+"1"):
			require.Greater(t, at.Milliseconds(), e.Expires.UnixMilli(), key)
		}
	}
	require.Len(t, keys, 9, "value, account in six parts, all, orgs: %v", keys)
	require.True(t, r.deleted(1, "k"))
	r.swept()
	keys, err = client.Keys(ctx, redisPrefix+"1*").Result()
	require.NoError(t, err)
	require.Empty(t, keys)
}

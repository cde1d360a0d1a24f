package main

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

// what a request does, as far as servers differ in when they say that they encrypt.
func purpose(r *http.Request) string {
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodPost && query.Has("uploads"):
		return "begin"
	case r.Method == http.MethodPut && query.Has("partNumber"):
		return "part"
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		return "copy"
	case r.Method == http.MethodPut:
		return "put"
	}
	return r.Method
}

func TestNothingCountsAsStoredByAServerThatDoesNotEncrypt(t *testing.T) {
	const small, large = 1000, 20 << 20
	for server, c := range map[string]struct {
		says               []string
		put, parts, copyOf bool // what works
	}{
		"that says it at once, as S3 does":                  {[]string{"put", "begin", "copy"}, true, true, true},
		"that says it of parts and of the object, as MinIO": {[]string{"put", "part", http.MethodHead}, true, true, true},
		"that does not copy with encryption":                {[]string{"put", "begin"}, true, true, false},
		"that encrypts no parts":                            {[]string{"put", "copy"}, true, false, true},
		"that has never heard of it":                        {nil, false, false, false},
	} {
		t.Run(server, func(t *testing.T) {
			s := newStore(t)
			proxy := s.proxy()
			proxy.ModifyResponse = func(r *http.Response) error {
				r.Header.Del(encryptionHeader)
				for _, when := range c.says {
					if purpose(r.Request) == when {
						r.Header.Set(encryptionHeader, "AES256")
					}
				}
				return nil
			}
			s.behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if p := purpose(r); p == "put" && r.ContentLength > 0 || p == "begin" || p == "copy" {
					if r.Header.Get(encryptionHeader) != "AES256" {
						t.Errorf("a %s does not ask for encryption", p)
					}
				}
				proxy.ServeHTTP(w, r)
			}))
			h := plugintest.Connect(t, plugin)
			require.Empty(t, h.Configure(s.config(map[string]any{"encryption": "s3"})))
			put := func(key string, size int64) error {
				_, err := h.Client.Put(t.Context(), plugintest.Instance, protocol.Put{Key: key, Size: size, OnlyNew: true}, bytes.NewReader(make([]byte, max(size, small))))
				return err
			}
			check := func(works bool, err error) {
				t.Helper()
				if works {
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, err, "the server was asked to encrypt and does not say that it did")
			}
			check(c.put, put("small", small))
			check(c.parts, put("large", large))
			check(c.parts, put("larger", large))
			check(c.parts, put("unknown", -1))
			if c.put {
				_, err := h.Client.Copy(t.Context(), plugintest.Instance, "small", protocol.Put{Key: "copy", Size: small, OnlyNew: true})
				check(c.copyOf, err)
				_, err = h.Client.Stat(t.Context(), plugintest.Instance, "copy")
				require.Equal(t, c.copyOf, err == nil, "%v", err)
			}
			uploads, _, err := h.Client.ListUploads(t.Context(), plugintest.Instance, "", protocol.Upload{}, 10)
			require.NoError(t, err)
			require.Empty(t, uploads)
		})
	}
}

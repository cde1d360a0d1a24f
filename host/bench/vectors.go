package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/sync/errgroup"

	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/platform/database"
	"github.com/rivergate/rivergate/services/storage/vectors"
)

const (
	vectorCount      = 100_000
	vectorDimensions = 384
	vectorBatch      = 1000
	vectorQueries    = 200
)

// vectors measures a collection of 100 000 vectors of 384 dimensions in SQLite: batches through the route, JSON and commit
// included; searches on one core, against the exact answer of the same collection. Gaussian vectors are the hardest for an
// index: everything is far from everything.
func (b *bench) vectors(ctx context.Context) error {
	n, queries := vectorCount, vectorQueries
	if b.quick {
		n, queries = 30_000, 50
	}
	var rates, p99s, recalls, exacts series
	for range b.rounds / 2 {
		rate, p99, recall, exact, err := b.vectorRound(ctx, n, queries)
		if err != nil {
			return err
		}
		b.say("%d vectors: %.0f stored per second; search p99 %.2f ms, recall@10 %.3f; exact search p50 %.1f ms", n, rate, p99, recall, exact)
		rates, p99s, recalls, exacts = append(rates, rate), append(p99s, p99), append(recalls, recall), append(exacts, exact)
	}
	name := fmt.Sprintf("%d × %d Gaussian vectors, cosine", n, vectorDimensions)
	b.report.add(figure{Name: name + ", upsert in batches of 1000 as JSON, one client, SQLite", Unit: "vectors/s", Runs: rates, Target: "≥ 20000", Met: met(rates.median() >= 20_000)})
	b.report.add(figure{Name: name + ", exact search on one core, p50", Unit: "ms", Runs: exacts})
	b.report.add(figure{Name: name + ", search on one core, p99", Unit: "ms", Runs: p99s, Target: "≤ 5.0", Met: met(p99s.median() <= 5)})
	b.report.add(figure{Name: name + ", recall@10", Runs: recalls, Target: "≥ 0.95", Met: met(recalls.median() >= 0.95)})
	return nil
}

func (b *bench) vectorRound(ctx context.Context, n, queries int) (rate, p99, recall, exact float64, err error) {
	db, err := database.Open(ctx, filepath.Join(b.dir, fmt.Sprintf("vectors-%d.db", time.Now().UnixNano())))
	if err != nil {
		return 0, 0, 0, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	v, err := vectors.Open(ctx, db, vectors.Options{Memory: 1 << 30})
	if err != nil {
		return 0, 0, 0, 0, err
	}
	defer v.Close()
	r := rand.New(rand.NewPCG(1, uint64(n)))
	if rate, err = storeVectors(ctx, v, r, n); err != nil {
		return 0, 0, 0, 0, err
	}
	asked := make([]vectors.Query, queries)
	for i := range asked {
		asked[i] = vectors.Query{Collection: "bench", Vector: gaussian(r), TopK: 10}
	}
	for { // the first search reads the collection, and the index is built beside the next ones
		result, err := v.Search(ctx, 1, &asked[0])
		if err != nil {
			return 0, 0, 0, 0, err
		}
		if result.Total != n {
			return 0, 0, 0, 0, fmt.Errorf("%d vectors were stored, %d are there", n, result.Total)
		}
		if !result.Exact {
			break
		}
	}
	runtime.GC()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var took, tookExact []time.Duration
	hits := 0
	for i := range asked {
		begun := time.Now()
		got, err := v.Search(ctx, 1, &asked[i])
		if err != nil {
			return 0, 0, 0, 0, err
		}
		took = append(took, time.Since(begun))
		asked[i].Exact = true
		begun = time.Now()
		truth, err := v.Search(ctx, 1, &asked[i])
		if err != nil {
			return 0, 0, 0, 0, err
		}
		tookExact = append(tookExact, time.Since(begun))
		for _, m := range got.Matches {
			if slices.ContainsFunc(truth.Matches, func(t vectors.Match) bool { return t.ID == m.ID }) {
				hits++
			}
		}
	}
	slices.Sort(took)
	slices.Sort(tookExact)
	return rate, ms(quantile(took, 0.99)), float64(hits) / float64(10*queries), ms(quantile(tookExact, 0.5)), nil
}

// storeVectors posts n vectors to a server on this machine, batch after batch, and returns how many were stored per second. Making the
// bodies does not count.
func storeVectors(ctx context.Context, v *vectors.Vectors, r *rand.Rand, n int) (rate float64, err error) {
	app := fiber.New(fiber.Config{DisableStartupMessage: true, BodyLimit: vectors.MaxBody})
	api.Mount(app, v.Routes(), &api.Gate{Development: true}, api.NewAnswers(time.Hour))
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	var serving errgroup.Group
	serving.Go(func() error { return app.Listener(listener) })
	client := &http.Client{Transport: &http.Transport{}}
	defer func() {
		client.CloseIdleConnections()
		err = errors.Join(err, app.Shutdown(), serving.Wait())
	}()
	var spent time.Duration
	var body []byte // always the same bytes: what the client leaves for the collector is no cost of the server
	for from := 0; from < n; from += vectorBatch {
		body = appendVectors(body[:0], r, from)
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+listener.Addr().String()+"/internal/vectors/upsert", bytes.NewReader(body))
		if err != nil {
			return 0, err
		}
		request.Header.Set("Content-Type", api.JSON)
		begun := time.Now()
		response, err := client.Do(request)
		if err != nil {
			return 0, err
		}
		said, err := io.ReadAll(response.Body)
		spent += time.Since(begun)
		if err = errors.Join(err, response.Body.Close()); err != nil {
			return 0, err
		}
		var answer api.Envelope[vectors.UpsertAnswer]
		if err := json.Unmarshal(said, &answer); err != nil || answer.Data.Inserted != vectorBatch {
			return 0, fmt.Errorf("upsert answered %d: %.200s", response.StatusCode, said)
		}
	}
	return float64(n) / spent.Seconds(), nil
}

func appendVectors(body []byte, r *rand.Rand, from int) []byte {
	body = append(body, `{"collection":"bench","vectors":[`...)
	for i := range vectorBatch {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, `{"id":"vector-`...)
		body = strconv.AppendInt(body, int64(from+i), 10)
		body = append(body, `","metadata":{"group":`...)
		body = strconv.AppendInt(body, int64(i%100), 10)
		body = append(body, `},"values":[`...)
		for k, f := range gaussian(r) {
			if k > 0 {
				body = append(body, ',')
			}
			body = strconv.AppendFloat(body, float64(f), 'g', -1, 32)
		}
		body = append(body, "]}"...)
	}
	return append(body, "]}"...)
}

func gaussian(r *rand.Rand) []float32 {
	v := make([]float32, vectorDimensions)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

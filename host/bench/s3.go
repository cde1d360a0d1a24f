package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sync/errgroup"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// s3Variable says where a server for measurements is; deploy/services sets it.
const s3Variable = "RIVERGATE_TEST_S3_URL"

// The buckets of this measurement. It makes and removes them.
const (
	pushedBucket = "rivergate-bench-pushed"
	bareBucket   = "rivergate-bench-bare"
)

// s3Uploads is how many objects the pusher puts at once, by default.
const s3Uploads = 4

// largeS3Batches are what the pusher's README advises for full speed.
var largeS3Batches = map[string]string{"PLUGIN_S3_BATCH_ROWS": "5000", "PLUGIN_S3_BATCH_BYTES": "8388608"}

// s3 compares the way through host, plugin and spool with minio-go that puts the very same objects by the same requests, read back from
// the bucket that the pusher filled: one after another, and as many at once as the pusher does, which takes all cores of a small machine
// for the server and the sums alone. The rows wait in the journal while the pusher is paused, so that the intake takes no time from
// either side. The clock runs until the last object is in the bucket.
func (b *bench) s3(ctx context.Context) (err error) {
	text := os.Getenv(s3Variable)
	if text == "" {
		return fmt.Errorf("no server: run it as `make bench`, or set %s", s3Variable)
	}
	store, err := openS3(text)
	if err != nil {
		return err
	}
	defer func() {
		done, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = errors.Join(err, store.remove(done, pushedBucket), store.remove(done, bareBucket))
	}()
	rows := int64(1_000_000)
	if b.quick {
		rows = 300_000
	}
	var large, small, bare, crowd series
	for range b.rounds {
		byDefault, err := b.pushToS3(ctx, store, rows, nil)
		if err != nil {
			return err
		}
		pushed, err := b.pushToS3(ctx, store, rows, largeS3Batches)
		if err != nil {
			return err
		}
		alone, err := store.putAgain(ctx, rows, 1)
		if err != nil {
			return err
		}
		together, err := store.putAgain(ctx, rows, s3Uploads)
		if err != nil {
			return err
		}
		b.say("%d rows: bare PUTs one after another %.0f rows/s, pusher with large batches %.0f (%.0f %%), by default %.0f (%.0f %%); bare PUTs, %d at once %.0f",
			rows, alone, pushed, 100*pushed/alone, byDefault, 100*byDefault/alone, s3Uploads, together)
		large, small, bare, crowd = append(large, pushed), append(small, byDefault), append(bare, alone), append(crowd, together)
	}
	b.report.add(figure{Name: "bare minio-go: the same objects by the same requests, one after another", Unit: "rows/s", Runs: bare})
	b.report.add(figure{Name: "s3 pusher with BATCH_ROWS=5000, BATCH_BYTES=8MiB, counted in the objects", Unit: "rows/s", Runs: large})
	ratio := 100 * large.median() / bare.median()
	b.report.add(figure{Name: "… against the bare PUTs one after another", Unit: "%", Value: ratio,
		Noise: large.noise() + bare.noise(), Target: "≥ 80", Met: met(ratio >= 80)})
	b.report.add(figure{Name: "s3 pusher by default (1000 rows per batch)", Unit: "rows/s", Runs: small})
	b.report.add(figure{Name: "… against the bare PUTs one after another", Unit: "%", Value: 100 * small.median() / bare.median(),
		Noise: small.noise() + bare.noise()})
	b.report.add(figure{Name: fmt.Sprintf("bare minio-go: %d at once, as the pusher does", s3Uploads), Unit: "rows/s", Runs: crowd})
	b.report.add(figure{Name: fmt.Sprintf("s3 pusher with large batches against the bare PUTs, %d at once", s3Uploads), Unit: "%",
		Value: 100 * large.median() / crowd.median(), Noise: large.noise() + crowd.noise()})
	return nil
}

// s3Store is the server.
type s3Store struct {
	*minio.Client
	address, key, secret string
}

func openS3(text string) (*s3Store, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s3Variable, err)
	}
	s := &s3Store{address: u.Host, key: u.User.Username()}
	s.secret, _ = u.User.Password()
	s.Client, err = minio.New(u.Host, &minio.Options{Creds: credentials.NewStaticV4(s.key, s.secret, ""), Region: "us-east-1"})
	return s, err
}

// remove empties and removes a bucket; one that is not there is no error.
func (s *s3Store) remove(ctx context.Context, bucket string) error {
	there, err := s.BucketExists(ctx, bucket)
	if err != nil || !there {
		return err
	}
	for o := range s.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			return o.Err
		}
		if err := s.RemoveObject(ctx, bucket, o.Key, minio.RemoveObjectOptions{}); err != nil {
			return err
		}
	}
	return s.RemoveBucket(ctx, bucket)
}

// renew gives an empty bucket of that name.
func (s *s3Store) renew(ctx context.Context, bucket string) error {
	if err := s.remove(ctx, bucket); err != nil {
		return fmt.Errorf("remove the bucket of the last run: %w", err)
	}
	if err := s.MakeBucket(ctx, bucket, minio.MakeBucketOptions{}); err != nil {
		return fmt.Errorf("make a bucket: %w", err)
	}
	return nil
}

// objects are those of a bucket, by key.
func (s *s3Store) objects(ctx context.Context, bucket string) (map[string][]byte, error) {
	all := map[string][]byte{}
	for o := range s.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			return nil, o.Err
		}
		object, err := s.GetObject(ctx, bucket, o.Key, minio.GetObjectOptions{})
		if err != nil {
			return nil, err
		}
		all[o.Key], err = io.ReadAll(object)
		if err = errors.Join(err, object.Close()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// pushToS3 returns rows per second from resume until the last object is in the bucket.
func (b *bench) pushToS3(ctx context.Context, s *s3Store, rows int64, more map[string]string) (rate float64, err error) {
	if err := s.renew(ctx, pushedBucket); err != nil {
		return 0, err
	}
	spool, err := os.MkdirTemp(b.dir, "s3-spool")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(spool)) }()
	env := map[string]string{
		"PLUGIN_S3_ENABLED": "true", "PLUGIN_S3_URL": "http://" + s.address, "PLUGIN_S3_BUCKET": pushedBucket, "PLUGIN_S3_REGION": "us-east-1",
		"PLUGIN_S3_ACCESS_KEY": s.key, "PLUGIN_S3_SECRET_KEY": s.secret, "PLUGIN_S3_SPOOL_DIR": spool,
		"PLUGIN_S3_ROLL_ROWS": "50000", "PLUGIN_S3_ROLL_INTERVAL": "100ms", // the last object does not wait for its age
	}
	maps.Copy(env, more)
	return b.push(ctx, push{
		pusher: "s3", env: env,
		arrived: func() error {
			for {
				left, err := filepath.Glob(filepath.Join(spool, "*", "*.seg"))
				if err != nil || len(left) == 0 {
					return err
				}
				if err := rig.Pause(ctx, 5*time.Millisecond); err != nil {
					return err
				}
			}
		},
		count: func() (counted int64, err error) {
			all, err := s.objects(ctx, pushedBucket)
			for _, text := range all {
				counted += int64(bytes.Count(text, []byte("\n")))
			}
			return counted, err
		},
	}, rows)
}

// putAgain puts what the pusher put into an empty bucket, so many objects at once.
func (s *s3Store) putAgain(ctx context.Context, rows int64, atOnce int) (rate float64, err error) {
	all, err := s.objects(ctx, pushedBucket)
	if err != nil {
		return 0, fmt.Errorf("read the objects back: %w", err)
	}
	if err := s.renew(ctx, bareBucket); err != nil {
		return 0, err
	}
	var putting errgroup.Group
	putting.SetLimit(atOnce)
	begun := time.Now()
	for _, key := range slices.Sorted(maps.Keys(all)) {
		putting.Go(func() error {
			text := all[key]
			options := minio.PutObjectOptions{DisableMultipart: true, SendContentMd5: true, DisableContentSha256: true}
			_, err := s.PutObject(ctx, bareBucket, key, bytes.NewReader(text), int64(len(text)), options)
			return err
		})
	}
	if err := putting.Wait(); err != nil {
		return 0, fmt.Errorf("put: %w", err)
	}
	return float64(rows) / time.Since(begun).Seconds(), nil
}

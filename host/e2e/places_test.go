package e2e

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	_ "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

func fileEverywhere(w *world) place {
	out := w.out("file")
	return place{pusher: "file", exact: true, env: map[string]string{"PATH": out}, arrived: func(t *testing.T) []delivery {
		return deliveries(t, arrivals(t, out))
	}}
}

func httpEverywhere(t *testing.T) place {
	r := newReceiver(t)
	return place{
		pusher: "http",
		env:    map[string]string{"URL": "http://" + r.addr + "/data/batch"},
		bounce: func(t *testing.T) {
			r.down()
			away(t)
			r.up()
		},
		arrived: func(t *testing.T) []delivery { return deliveries(t, r.received()) },
	}
}

// everywhereName is the table, topic, queue, stream and bucket of the ledger: the servers are new with each run of the tests.
const everywhereName = "rivergate-everywhere"

func postgresEverywhere(t *testing.T) place {
	dsn := server(t, "RIVERGATE_TEST_POSTGRES_DSN")
	return place{
		pusher: "postgres", bounce: killed("postgres"), exact: true,
		env: map[string]string{"DSN": dsn, "TABLE": everywhereName, "CREATE_TABLE": "true"},
		arrived: func(t *testing.T) (all []delivery) {
			conn, err := pgx.Connect(t.Context(), dsn)
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close(t.Context())) }()
			defer func() {
				_, err := conn.Exec(t.Context(), "DROP TABLE "+pgx.Identifier{everywhereName}.Sanitize())
				require.NoError(t, err)
			}()
			rows, err := conn.Query(t.Context(), "SELECT uuid, position, data FROM "+pgx.Identifier{everywhereName}.Sanitize()+" ORDER BY position")
			require.NoError(t, err)
			var uuid string
			var position int64
			var data json.RawMessage
			_, err = pgx.ForEachRow(rows, []any{&uuid, &position, &data}, func() error {
				all = append(all, delivery{seqOf(t, uuid, data), uint64(position)})
				return nil
			})
			require.NoError(t, err)
			return all
		},
	}
}

// seqOf is rowOf for a destination that orders the members of a row anew.
func seqOf(t *testing.T, uuid string, data json.RawMessage) rowID {
	t.Helper()
	var row struct{ Seq int }
	require.NoError(t, json.Unmarshal(data, &row))
	return rowID{uuid, row.Seq}
}

// table reads the rows of one of the tables that pushers fill, in the order of the journal.
func table(t *testing.T, driver, dsn, query string) (all []delivery) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	rows, err := db.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var uuid string
		var position uint64
		var data []byte
		require.NoError(t, rows.Scan(&uuid, &position, &data))
		all = append(all, delivery{seqOf(t, uuid, data), position})
	}
	require.NoError(t, rows.Err())
	return all
}

func mysqlEverywhere(t *testing.T) place {
	dsn := server(t, "RIVERGATE_TEST_MYSQL_DSN")
	return place{
		pusher: "mysql", bounce: killed("mysql"), exact: true,
		env: map[string]string{"DSN": dsn, "TABLE": everywhereName, "CREATE_TABLE": "true"},
		arrived: func(t *testing.T) []delivery {
			return table(t, "mysql", dsn, "SELECT uuid, position, data FROM `"+everywhereName+"` ORDER BY position")
		},
	}
}

func sqliteEverywhere(w *world) place {
	path := filepath.Join(w.dir, "out", "everywhere.sqlite")
	return place{pusher: "sqlite", exact: true, env: map[string]string{"PATH": path}, arrived: func(t *testing.T) []delivery {
		return table(t, "sqlite", path, "SELECT uuid, position, data FROM rivergate_rows ORDER BY position")
	}}
}

func redisEverywhere(t *testing.T) place {
	address := server(t, "RIVERGATE_TEST_REDIS_ADDR")
	return place{
		pusher: "redis", bounce: killed("redis"), exact: true,
		env: map[string]string{"URL": "redis://" + address, "KEY": everywhereName, "POSITIONS": "positions-of-" + everywhereName},
		arrived: func(t *testing.T) (all []delivery) {
			client := redis.NewClient(&redis.Options{Addr: address})
			defer func() { require.NoError(t, client.Close()) }()
			entries, err := client.XRange(t.Context(), everywhereName, "-", "+").Result()
			require.NoError(t, err)
			for _, e := range entries {
				field := func(name string) string { text, _ := e.Values[name].(string); return text }
				position, err := strconv.ParseUint(field("position"), 10, 64)
				require.NoError(t, err)
				all = append(all, delivery{rowOf(t, field("uuid"), json.RawMessage(field("data"))), position})
			}
			return all
		},
	}
}

func kafkaEverywhere(t *testing.T) place {
	broker := server(t, "RIVERGATE_TEST_KAFKA_BROKERS")
	return place{
		pusher: "kafka", bounce: killed("kafka"),
		env: map[string]string{"BROKERS": broker, "TOPIC": everywhereName, "CREATE_TOPIC": "true"},
		arrived: func(t *testing.T) (all []delivery) {
			config := sarama.NewConfig()
			config.Version = sarama.V2_4_0_0
			client, err := sarama.NewClient([]string{broker}, config)
			require.NoError(t, err)
			defer func() { require.NoError(t, client.Close()) }()
			consumer, err := sarama.NewConsumerFromClient(client)
			require.NoError(t, err)
			partitions, err := client.Partitions(everywhereName)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for _, partition := range partitions {
				end, err := client.GetOffset(everywhereName, partition, sarama.OffsetNewest)
				require.NoError(t, err)
				if end == 0 {
					continue
				}
				records, err := consumer.ConsumePartition(everywhereName, partition, sarama.OffsetOldest)
				require.NoError(t, err)
				for next := int64(0); next < end; {
					select {
					case r := <-records.Messages():
						all = append(all, delivery{rowID: rowOf(t, string(r.Key), r.Value)})
						next = r.Offset + 1
					case <-ctx.Done():
						t.Fatal("the broker does not hand out what it has")
					}
				}
				require.NoError(t, records.Close())
			}
			return all
		},
	}
}

func amqpEverywhere(t *testing.T) place {
	address := server(t, "RIVERGATE_TEST_AMQP_URL")
	return place{
		pusher: "amqp", bounce: killed("rabbitmq"), copies: anyCopies,
		env: map[string]string{"URL": address, "QUEUE": everywhereName},
		arrived: func(t *testing.T) (all []delivery) {
			conn, err := amqp.Dial(address)
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close()) }()
			channel, err := conn.Channel()
			require.NoError(t, err)
			queue, err := channel.QueueDeclarePassive(everywhereName, true, false, false, false, nil)
			require.NoError(t, err)
			messages, err := channel.ConsumeWithContext(t.Context(), everywhereName, "", true, false, false, false, nil)
			require.NoError(t, err)
			for range queue.Messages {
				m := <-messages
				uuid, _ := m.Headers["uuid"].(string)
				all = append(all, delivery{rowID: rowOf(t, uuid, m.Body)})
			}
			_, err = channel.QueueDelete(everywhereName, false, false, false)
			require.NoError(t, err)
			return all
		},
	}
}

// mqttEverywhere subscribes before the first row, with a session that the broker keeps while we or it are away.
func mqttEverywhere(t *testing.T) place {
	address := server(t, "RIVERGATE_TEST_MQTT_URL")
	u, err := url.Parse(address)
	require.NoError(t, err)
	password, _ := u.User.Password()
	var mu sync.Mutex
	var messages []*paho.Publish
	subscribed := make(chan struct{})
	ready := sync.OnceFunc(func() { close(subscribed) })
	ctx, cancel := context.WithCancel(context.Background())
	client, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{{Scheme: "mqtt", Host: u.Host}}, ConnectUsername: u.User.Username(), ConnectPassword: []byte(password),
		KeepAlive: 20, SessionExpiryInterval: 3600, ConnectTimeout: 5 * time.Second,
		ReconnectBackoff: func(int) time.Duration { return 100 * time.Millisecond },
		AttemptConnection: func(ctx context.Context, _ autopaho.ClientConfig, u *url.URL) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", u.Host)
		},
		OnConnectionUp: func(c *autopaho.ConnectionManager, _ *paho.Connack) {
			if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: everywhereName + "/#", QoS: 1}}}); err == nil {
				ready()
			}
		},
		ClientConfig: paho.ClientConfig{ClientID: everywhereName, OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			messages = append(messages, p.Packet)
			return true, nil
		}}},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		cancel()
		<-client.Done()
	})
	eventually(t, 30*time.Second, "the subscription at the MQTT broker", func(context.Context) bool {
		select {
		case <-subscribed:
			return true
		default:
			return false
		}
	})
	return place{
		pusher: "mqtt", bounce: ended("mosquitto", "TERM"), copies: lastCopies,
		env: map[string]string{"URL": address, "TOPIC": everywhereName + "/{uuid}"},
		arrived: func(t *testing.T) (all []delivery) {
			// The broker hands on what it acknowledged a moment later.
			before := -1
			eventually(t, time.Minute, "quiet at the subscriber", func(ctx context.Context) bool {
				if rig.Pause(ctx, time.Second) != nil {
					return false
				}
				mu.Lock()
				defer mu.Unlock()
				quiet := len(messages) == before
				before = len(messages)
				return quiet
			})
			mu.Lock()
			defer mu.Unlock()
			for _, m := range messages {
				all = append(all, delivery{rowID: rowOf(t, m.Properties.User.Get("uuid"), m.Payload)})
			}
			return all
		},
	}
}

func natsEverywhere(t *testing.T) place {
	address := server(t, "RIVERGATE_TEST_NATS_URL")
	return place{
		pusher: "nats", bounce: killed("nats"), exact: true,
		env: map[string]string{"URL": address, "STREAM": everywhereName, "SUBJECT": everywhereName + ".{org}", "CREATE_STREAM": "true"},
		arrived: func(t *testing.T) (all []delivery) {
			conn, err := nats.Connect(address)
			require.NoError(t, err)
			defer conn.Close()
			js, err := jetstream.New(conn)
			require.NoError(t, err)
			stream, err := js.Stream(t.Context(), everywhereName)
			require.NoError(t, err)
			consumer, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
			require.NoError(t, err)
			for uint64(len(all)) < stream.CachedInfo().State.Msgs {
				batch, err := consumer.Fetch(5000, jetstream.FetchMaxWait(10*time.Second))
				require.NoError(t, err)
				before := len(all)
				for m := range batch.Messages() {
					position, err := strconv.ParseUint(m.Headers().Get("position"), 10, 64)
					require.NoError(t, err)
					all = append(all, delivery{rowOf(t, m.Headers().Get("uuid"), m.Data()), position})
				}
				require.NoError(t, batch.Error())
				require.Greater(t, len(all), before, "the server does not hand out what it has")
			}
			return all
		},
	}
}

func s3Everywhere(t *testing.T, w *world) place {
	address, err := url.Parse(server(t, "RIVERGATE_TEST_S3_URL"))
	require.NoError(t, err)
	key := address.User.Username()
	secret, _ := address.User.Password()
	connections := &http.Transport{}
	t.Cleanup(connections.CloseIdleConnections)
	client, err := minio.New(address.Host, &minio.Options{Creds: credentials.NewStaticV4(key, secret, ""), Region: "us-east-1", Transport: connections})
	require.NoError(t, err)
	require.NoError(t, client.MakeBucket(t.Context(), everywhereName, minio.MakeBucketOptions{}))
	spool := filepath.Join(w.dir, "s3-spool")
	return place{
		pusher: "s3", bounce: killed("s3"), exact: true,
		env: map[string]string{
			"URL": "http://" + address.Host, "BUCKET": everywhereName, "REGION": "us-east-1", "ACCESS_KEY": key, "SECRET_KEY": secret,
			"SPOOL_DIR": spool, "ROLL_INTERVAL": "2s",
		},
		arrived: func(t *testing.T) (all []delivery) {
			eventually(t, time.Minute, "an empty spool of the pusher s3", func(context.Context) bool {
				left, err := filepath.Glob(filepath.Join(spool, "*", "*.seg"))
				require.NoError(t, err)
				return len(left) == 0
			})
			for object := range client.ListObjects(t.Context(), everywhereName, minio.ListObjectsOptions{Recursive: true}) {
				require.NoError(t, object.Err)
				lines, err := client.GetObject(t.Context(), everywhereName, object.Key, minio.GetObjectOptions{})
				require.NoError(t, err)
				for decoder := json.NewDecoder(lines); decoder.More(); {
					var a arrival
					require.NoError(t, decoder.Decode(&a), object.Key)
					all = append(all, delivery{a.id(t), a.Position})
				}
				require.NoError(t, lines.Close())
			}
			slices.SortStableFunc(all, func(a, b delivery) int { return cmp.Compare(a.position, b.position) }) // objects are by partition
			return all
		},
	}
}

// Package config turns the environment into one typed Config. It is read once, at start; every problem is found at once
// and names the variable, what is wrong, and the nearest known name.
//
//	RIVERGATE_…           the host, struct Host
//	PLUGIN_<NAME>_…       a pusher instance, struct Instance; what the host does not own is the plugin's own configuration
package config

import (
	"time"

	"github.com/rivergate/rivergate/sdk/settings"
)

// Prefixes of the variables.
const (
	hostPrefix   = "RIVERGATE_"
	pluginPrefix = "PLUGIN_"
)

// Config is everything that the operator can say.
type Config struct {
	Host
	Instances []Instance         // the enabled ones, by name
	Backend   *Backend           // of the storage; nil: this host runs no storage
	Warnings  []settings.Problem // variables that have no effect
}

// Host is the host's own configuration. A variable is RIVERGATE_ and the config tag in upper case.
type Host struct {
	Listen          string          `config:"listen" default:"127.0.0.1:8080" doc:"Address and port of the HTTP API. An address that is not loopback needs RIVERGATE_TRUSTED_PROXIES." example:"127.0.0.1:9090"`
	Targets         []string        `config:"targets" default:"gateway,storage" doc:"Services that this host runs: gateway, storage. A host that runs one of them listens on its own port unless RIVERGATE_LISTEN says otherwise: gateway 8001, storage 8002."`
	DataDir         string          `config:"data_dir" default:"data" doc:"Folder for everything that must survive a restart: journal, cursors, dead letters. One host per folder."`
	PluginDir       string          `config:"plugin_dir" default:"bin/plugins" doc:"Folder with the plugin binaries, rivergate-pusher-<name>."`
	PluginMTLS      string          `config:"plugin_mtls" default:"auto" enum:"auto,on,off" doc:"Mutual TLS between host and plugins; auto: off on unix sockets, on for TCP."`
	PluginPolicy    string          `config:"plugin_policy" enum:"locked,pinned,any" doc:"Which plugin binaries may run. locked: those in the lock file with that hash; pinned: those, and those with PLUGIN_<NAME>_SHA256; any: every one (only while the API listens on loopback). Default: any on loopback, locked elsewhere."`
	PluginLock      string          `config:"plugin_lock" doc:"Lock file of the plugins, written by rivergate plugins lock; by default plugins.lock in the plugin folder."`
	PluginKeys      []string        `config:"plugin_keys" doc:"minisign public keys (the key itself, or a file with it). When set, a plugin runs only with a signature of one of them in <binary>.minisig." example:"/etc/rivergate/publisher.pub"`
	PluginAttach    []string        `config:"plugin_attach" doc:"Instances whose process is not started but already runs, for example under a debugger: name=address, each a loopback address or a unix socket. The plugin is started with --listen." example:"acme=127.0.0.1:7000,file=unix:/tmp/file.sock"`
	PluginTrace     []string        `config:"plugin_trace" doc:"Instances of which every message to and from the plugin is logged, * for all. Data are left out unless RIVERGATE_PLUGIN_TRACE_DATA is true." example:"acme"`
	PluginTraceData bool            `config:"plugin_trace_data" default:"false" doc:"Show the rows and the configuration in what RIVERGATE_PLUGIN_TRACE logs. Values that the plugin's schema marks as secret stay masked."`
	EnvFile         string          `config:"env_file" doc:"File with NAME=value lines that are read as if they stood in the environment, which wins. SIGHUP reads it again." example:"/etc/rivergate.env"`
	TracesURL       string          `config:"traces_otlp" format:"uri" doc:"OTLP/HTTP endpoint that gets a trace of each sampled request, from the POST to the plugin's outcome; by default what OTEL_EXPORTER_OTLP_ENDPOINT says. Empty: no traces." example:"http://127.0.0.1:4318"`
	TracesSample    float64         `config:"traces_sample" default:"1" min:"0" max:"1" doc:"Share of the requests without a trace of their own (traceparent) that are traced."`
	ControlTower    string          `config:"control_tower_url" format:"uri" doc:"Control tower where the context of a row's uuid is looked up, at /triggers/{uuid}, for plugins that need it." example:"http://control-tower.internal:8000"`
	TowerToken      settings.Secret `config:"control_tower_token" doc:"Bearer token that the control tower is shown."`
	TowerTimeout    time.Duration   `config:"control_tower_timeout" default:"5s" min:"10ms" max:"5m" doc:"Time for one request to the control tower. What fails is asked for again with the pusher's backoff, RETRY_MIN to RETRY_MAX; meanwhile the rows wait."`
	TowerMissingFor time.Duration   `config:"control_tower_missing_for" default:"5m" min:"0s" max:"168h" doc:"How long a trigger is looked for that the control tower does not know (404), before the rows that wait for it go to the dead letters."`
	TowerCache      settings.Bytes  `config:"control_tower_cache" default:"16MiB" min:"1KiB" max:"16GiB" doc:"Triggers kept in memory, bytes."`
	Auth            string          `config:"auth" default:"headers" enum:"headers,jwt,apikey" doc:"How requests prove who they are. headers: X-Org-ID and X-User-ID are trusted, so only from loopback or trusted proxies. jwt and apikey come with a later version and are refused."`
	TrustedProxies  []string        `config:"trusted_proxies" doc:"Networks (CIDR) whose context headers are believed; needed to listen on another address than loopback." example:"10.0.0.0/8,192.168.1.7/32"`
	CORSOrigins     []string        `config:"cors_origins" doc:"Origins whose pages may use the API from a browser, each exactly as the browser names it, or * for all. Empty: none. A signed URL may be used by every page all the same, and an /internal route by none." example:"https://app.example.com,http://localhost:5173"`
	InternalToken   settings.Secret `config:"internal_token" doc:"What X-Internal-Token must be on /internal routes once a listener is not loopback."`
	GatewayHold     bool            `config:"gateway_hold" default:"false" doc:"Accept rows although no pusher is enabled, and keep them for later."`
	GatewayKeys     string          `config:"gateway_keys" default:"warn" enum:"warn,strict,off" doc:"Keys of a row that are not camelCase: accept and warn, refuse with 422, or do not look."`
	GatewayMaxRows  int             `config:"gateway_max_rows" default:"10000" min:"1" max:"1000000" doc:"Rows in one request, at most."`
	GatewayMaxBody  settings.Bytes  `config:"gateway_max_body" default:"16MiB" min:"1KiB" max:"64MiB" doc:"Body of one request, at most."`
	OrgMaxBacklog   int64           `config:"gateway_org_max_backlog" default:"0" min:"0" doc:"Rows of one organisation that may wait before its POSTs get 429; 0: only the journal's size limits."`
	Journal         string          `config:"journal" doc:"Where accepted rows are kept: empty or files, segment files under the data folder. This version has no other."`
	JournalMaxBytes settings.Bytes  `config:"journal_max_bytes" default:"10GiB" min:"64KiB" doc:"Size of the journal, at most; when it is reached, POSTs get 429."`
	SegmentBytes    settings.Bytes  `config:"journal_segment_bytes" default:"64MiB" min:"4KiB" max:"128MiB" doc:"Size of one segment file, at most a quarter of the journal. Space is given back in whole segments."`
	IdempotencyTTL  time.Duration   `config:"idempotency_ttl" default:"24h" min:"1m" max:"720h" doc:"How long an Idempotency-Key is remembered, within the newest 500000."`
	DeadLettersMax  settings.Bytes  `config:"dead_letters_max_bytes" default:"1GiB" min:"64KiB" doc:"Dead letters kept per pusher; when it is reached, that pusher waits and nothing is dropped."`
	PublicURL       string          `config:"public_url" format:"uri" doc:"Address under which clients reach this host, for the URLs that it signs; by default that of the request." example:"https://gateway.example.org"`
	DatabaseURL     settings.Secret `config:"database_url" doc:"PostgreSQL database for the storage service's metadata, also behind PgBouncer in transaction pooling mode; by default a SQLite file in the data folder. It looks like postgres://USER:PASSWORD@HOST:5432/NAME."`
	Storage         string          `config:"storage" default:"local" doc:"Storage plugin that keeps the files, rivergate-storage-<name>; its own variables start with PLUGIN_STORAGE_<NAME>_." example:"s3"`
	StorageQuota    settings.Bytes  `config:"storage_quota" default:"10GiB" min:"0" doc:"Bytes that an organisation may keep, unless rivergate orgs set-quota says otherwise for it."`
	StorageMaxFile  settings.Bytes  `config:"storage_max_file" default:"100MiB" min:"1KiB" doc:"Size of one file, at most."`
	StorageBucket   string          `config:"storage_bucket" default:"rivergen-storage" doc:"Bucket in the s3:// addresses of a storage plugin that has none of its own."`
	StorageSeal     string          `config:"storage_encryption" default:"host" enum:"host,backend,off" doc:"Who encrypts files at rest: the host, with a key per organisation; the backend, where it can; or nobody."`
	MasterKey       settings.Secret `config:"master_key" doc:"Key that wraps the organisations' keys: 32 bytes, as base64 or hex. Without it and RIVERGATE_MASTER_KEY_FILE, a host that listens on loopback makes one, DATA_DIR/master.key."`
	MasterKeyBefore settings.Secret `config:"master_key_previous" doc:"The master key before RIVERGATE_MASTER_KEY, while rivergate storage rotate-key is still to be run."`
	MasterKeyFile   string          `config:"master_key_file" doc:"File with the master key, readable by its owner only." example:"/etc/rivergate/master.key"`
	StorageTypes    string          `config:"storage_content_types" default:"warn" enum:"warn,reject" doc:"What becomes of an upload whose bytes are of another type than it says: accepted with a warning, or refused with 415."`
	StorageBlocked  []string        `config:"storage_blocked_types" doc:"Content types that no upload may have, as found in its bytes." example:"application/x-msdownload,application/x-executable"`
	WarmAfterDays   int             `config:"storage_warm_after_days" default:"30" min:"1" doc:"Days without access after which a file moves to the warm tier."`
	ColdAfterDays   int             `config:"storage_cold_after_days" default:"90" min:"1" doc:"Days without access after which a file moves to the cold tier."`
	LifecycleEvery  time.Duration   `config:"storage_lifecycle_every" default:"1h" min:"1m" max:"168h" doc:"How often files are moved between tiers, and expired ones deleted."`
	VectorsMemory   settings.Bytes  `config:"vectors_memory" default:"256MiB" min:"16MiB" doc:"Memory for the vectors of collections that are searched; those that were not used for longest leave it. A larger one is searched in the database, with pgvector where PostgreSQL has it."`
	Cache           settings.Secret `config:"cache" doc:"Redis that holds the cache, for several hosts: redis://USER:PASSWORD@HOST:6379/0, or rediss:// or unix://. Without it, the cache is in the process."`
	CacheOrg        settings.Bytes  `config:"cache_org_bytes" default:"32MiB" min:"11MiB" doc:"What the cache keeps for one organisation; beyond that, its own entries give way."`
	CacheBytes      settings.Bytes  `config:"cache_bytes" default:"64MiB" min:"11MiB" doc:"What a cache in the process keeps for all; beyond that, the organisation with the most gives way."`
	LogLevel        string          `config:"log_level" default:"info" enum:"trace,debug,info,warn,error" doc:"Least level that is logged."`
	LogFormat       string          `config:"log_format" default:"text" enum:"text,json" doc:"Form of the log, on standard error."`
	ShutdownTimeout time.Duration   `config:"shutdown_timeout" default:"10s" min:"1s" max:"10m" doc:"Time for finishing in good order after SIGTERM or SIGINT. What is not finished by then is delivered after the next start."`
	MemoryLimit     settings.Bytes  `config:"memory_limit" default:"128MiB" min:"32MiB" doc:"Memory that the host's garbage collector aims to stay under; a goal, not a wall."`
	URL             string          `config:"url" format:"uri" doc:"For the client commands: address of the host; by default http:// and RIVERGATE_LISTEN." example:"http://gateway.internal:8080"`

	// TracesEndpoint is the whole address that traces are sent to, from TracesURL or the variables of OpenTelemetry. Empty: no
	// traces.
	TracesEndpoint string `config:"-"`
}

package conformance

import "context"

// Rule is one rule of the plugin contract. Ids are stable.
type Rule struct {
	ID       string   `json:"id"`
	Title    string   `json:"title"`           // a few words
	Contract string   `json:"contract"`        // the contract's sentence that it checks
	Needs    []string `json:"needs,omitempty"` // rules without which this one cannot be judged

	check func(context.Context, *suite) error
}

// Rules are all rules, in the order in which they are checked. This table is the one source of them.
func Rules() []Rule {
	return []Rule{
		{"handshake", "starts and writes its handshake", "Started by a host, it writes the handshake line core|version|network|address|grpc on standard output: a protocol version that was offered, a unix socket in the folder PLUGIN_UNIX_SOCKET_DIR or loopback TCP.", nil, checkHandshake},
		{"stdout", "nothing on standard output before the handshake", "The handshake is the first line on standard output; logs go to standard error.", []string{"handshake"}, checkStdout},
		{"version", "agrees on a protocol version", "Base.Handshake answers with one protocol version, the one of the handshake line.", []string{"handshake"}, checkVersion},
		{"describe", "says what it is", "Describe needs no configuration, says name, semantic version and the kind pusher, and answers the same in every process.", []string{"version"}, checkDescribe},
		{"schema", "has a configuration schema", "The configuration schema is a JSON Schema 2020-12 of an object.", []string{"describe"}, checkSchema},
		{"unknown-fields", "ignores unknown fields", "Fields of a message that the plugin does not know are ignored.", []string{"describe"}, checkUnknownFields},
		{"configure", "takes its configuration", "Configure with a configuration that fits the schema makes an instance, without problems.", []string{"schema"}, checkConfigure},
		{"bad-configuration", "refuses a wrong configuration", "A configuration that does not fit the schema gets problems that name the field, and the process lives on.", []string{"configure"}, checkBadConfiguration},
		{"deadlines", "answers every call in time", "Every unary call answers in time, and a call that is cancelled holds up no later one.", []string{"configure"}, checkDeadlines},
		{"health", "tells its health", "A configured instance is healthy; one that was never configured is NOT_FOUND.", []string{"deadlines"}, checkHealth},
		{"outcomes", "accounts for every row", "Every batch is acknowledged once, in order and not before it was sent; each outcome names a row of the batches just acknowledged, once, with a class of the protocol.", []string{"health"}, checkOutcomes},
		{"window", "works with any window", "It needs no more batches in flight than it is given, be it one, and keeps up with eight.", []string{"outcomes"}, checkWindow},
		{"packs", "takes several batches in one message", "A plugin with the capability packs takes the batches of one message as if they had come one by one.", []string{"window"}, checkPacks},
		{"order", "keeps the order after a failed row", "In an ordered batch, no row is delivered behind an undelivered one of the same organisation and uuid.", []string{"window"}, checkOrder},
		{"retry", "takes rows again", "Rows that come again, on a new stream or after a new Configure, are acknowledged.", []string{"window"}, checkRetry},
		{"drain", "finishes and releases an instance", "After the host has closed the stream it acknowledges what it has and ends the stream; Drain answers, also twice, and the instance is then unknown.", []string{"window"}, checkDrain},
		{"restart", "goes on after kill -9", "Killed at any moment and started again with the same configuration, it takes the rows that it had not acknowledged.", []string{"window"}, checkRestart},
		{"overlap", "can be upgraded while it delivers", "During an upgrade a second process is configured like the first while that still delivers, and goes on when the first is drained.", []string{"restart", "drain"}, checkOverlap},
		{"instances", "serves several instances", "A plugin with the capability instances serves several in one process, each by itself.", []string{"window", "drain"}, checkInstances},
		{"odd-bytes", "takes any JSON", "Rows are any JSON of any shape, organisations, indices and uuids any that the protocol allows: the plugin answers for them and stays up.", []string{"window"}, checkOddBytes},
		{"triggers", "takes any trigger", "A plugin with needs_trigger gets the trigger of its uuid with every frame: a JSON object as the control tower has it, with or without plate and metadata; it answers for the rows and stays up.", []string{"window"}, checkTriggers},
		{"large-batch", "takes large batches", "It takes batches of thousands of rows and of 20 MiB, and a row of 16 MiB, or states its limits in the handshake.", []string{"window"}, checkLargeBatch},
		{"logs", "logs in measure", "It logs on standard error, and does not flood it. (Informative: it never fails.)", []string{"window"}, checkLogs},
		{"sigterm", "ends at SIGTERM", "At SIGTERM it ends by itself, within ten seconds, with exit code 0.", []string{"handshake"}, checkSigterm},
		{"parent-death", "ends with its host", "When its parent is killed it ends by itself, within five seconds, with all that it started, and leaves no socket.", []string{"handshake"}, checkParentDeath},
	}
}

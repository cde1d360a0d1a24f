package conformance

import (
	"context"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Rule is one rule of the plugin contract. Ids are stable.
type Rule struct {
	ID       string   `json:"id"`
	Title    string   `json:"title"`           // a few words
	Contract string   `json:"contract"`        // the contract's sentence that it checks
	Needs    []string `json:"needs,omitempty"` // rules without which this one cannot be judged
	// Kind is the kind of plugin that the rule is for; empty: every kind.
	Kind protocol.Kind `json:"kind,omitempty"`

	check func(context.Context, *suite) error
}

// Rules are all rules, in the order in which they are checked. This table is the one source of them.
func Rules() []Rule {
	return []Rule{
		{"handshake", "starts and writes its handshake", "Started by a host, it writes the handshake line core|version|network|address|grpc on standard output: a protocol version that was offered, a unix socket in the folder PLUGIN_UNIX_SOCKET_DIR or loopback TCP.", nil, "", checkHandshake},
		{"stdout", "nothing on standard output before the handshake", "The handshake is the first line on standard output; logs go to standard error.", []string{"handshake"}, "", checkStdout},
		{"version", "agrees on a protocol version", "Base.Handshake answers with one protocol version, the one of the handshake line.", []string{"handshake"}, "", checkVersion},
		{"describe", "says what it is", "Describe needs no configuration, says name, semantic version and its kind, pusher or storage, and answers the same in every process.", []string{"version"}, "", checkDescribe},
		{"schema", "has a configuration schema", "The configuration schema is a JSON Schema 2020-12 of an object.", []string{"describe"}, "", checkSchema},
		{"unknown-fields", "ignores unknown fields", "Fields of a message that the plugin does not know are ignored.", []string{"describe"}, "", checkUnknownFields},
		{"configure", "takes its configuration", "Configure with a configuration that fits the schema makes an instance, without problems.", []string{"schema"}, "", checkConfigure},
		{"bad-configuration", "refuses a wrong configuration", "A configuration that does not fit the schema gets problems that name the field, and the process lives on.", []string{"configure"}, "", checkBadConfiguration},
		{"deadlines", "answers every call in time", "Every unary call answers in time, and a call that is cancelled holds up no later one.", []string{"configure"}, "", checkDeadlines},
		{"health", "tells its health", "A configured instance is healthy; one that was never configured is NOT_FOUND.", []string{"deadlines"}, "", checkHealth},
		{"outcomes", "accounts for every row", "Every batch is acknowledged once, in order and not before it was sent; each outcome names a row of the batches just acknowledged, once, with a class of the protocol.", []string{"health"}, protocol.KindPusher, checkOutcomes},
		{"window", "works with any window", "It needs no more batches in flight than it is given, be it one, and keeps up with eight.", []string{"outcomes"}, protocol.KindPusher, checkWindow},
		{"packs", "takes several batches in one message", "A plugin with the capability packs takes the batches of one message as if they had come one by one.", []string{"window"}, protocol.KindPusher, checkPacks},
		{"order", "keeps the order after a failed row", "In an ordered batch, no row is delivered behind an undelivered one of the same organisation and uuid.", []string{"window"}, protocol.KindPusher, checkOrder},
		{"retry", "takes rows again", "Rows that come again, on a new stream or after a new Configure, are acknowledged.", []string{"window"}, protocol.KindPusher, checkRetry},
		{"drain", "finishes and releases an instance", "After the host has closed the stream it acknowledges what it has and ends the stream; Drain answers, also twice, and the instance is then unknown.", []string{"window"}, protocol.KindPusher, checkDrain},
		{"restart", "goes on after kill -9", "Killed at any moment and started again with the same configuration, it takes the rows that it had not acknowledged.", []string{"window"}, protocol.KindPusher, checkRestart},
		{"overlap", "can be upgraded while it delivers", "During an upgrade a second process is configured like the first while that still delivers, and goes on when the first is drained.", []string{"restart", "drain"}, protocol.KindPusher, checkOverlap},
		{"instances", "serves several instances", "A plugin with the capability instances serves several in one process, each by itself.", []string{"window", "drain"}, protocol.KindPusher, checkInstances},
		{"odd-bytes", "takes any JSON", "Rows are any JSON of any shape, organisations, indices and uuids any that the protocol allows: the plugin answers for them and stays up.", []string{"window"}, protocol.KindPusher, checkOddBytes},
		{"triggers", "takes any trigger", "A plugin with needs_trigger gets the trigger of its uuid with every frame: a JSON object as the control tower has it, with or without plate and metadata; it answers for the rows and stays up.", []string{"window"}, protocol.KindPusher, checkTriggers},
		{"large-batch", "takes large batches", "It takes batches of thousands of rows and of 20 MiB, and a row of 16 MiB, or states its limits in the handshake.", []string{"window"}, protocol.KindPusher, checkLargeBatch},
		{"logs", "logs in measure", "It logs on standard error, and does not flood it. (Informative: it never fails.)", []string{"window"}, protocol.KindPusher, checkLogs},
		{"put", "stores and gives back", "What Put has acknowledged, Get, Stat and List have, byte for byte, until Delete; what is not there is NOT_FOUND.", []string{"health"}, protocol.KindStorage, checkPut},
		{"ranges", "gives any part", "Get gives exactly the bytes of the range that are there; ErrRange when it begins at or beyond the end.", []string{"put"}, protocol.KindStorage, checkRanges},
		{"keys", "keeps each key as it is", "A key is data: it is kept as it is, with case and Unicode form, or refused with the class KEY.", []string{"put"}, protocol.KindStorage, checkKeys},
		{"list", "lists in order, in pages", "List is ordered by the bytes of the key, and goes on after any key, whether there is such an object or not.", []string{"put"}, protocol.KindStorage, checkList},
		{"only-new", "creates once", "Of many Puts at once with OnlyNew, exactly one succeeds, and the others get ErrPrecondition.", []string{"put"}, protocol.KindStorage, checkOnlyNew},
		{"overwrite", "never mixes versions", "While several write a key, a reader sees one version, whole.", []string{"put"}, protocol.KindStorage, checkOverwrite},
		{"body", "stores nothing of a body that fails", "An error of the body leaves the former object in its place, and nothing of the new one.", []string{"put"}, protocol.KindStorage, checkBody},
		{"cancel", "ends with its caller", "A call that is cancelled ends, leaves nothing behind and holds up no later one.", []string{"body"}, protocol.KindStorage, checkCancel},
		{"copy", "copies between keys and tiers", "Copy makes an object of the same bytes in any tier of Abilities, of the same key too.", []string{"put"}, protocol.KindStorage, checkCopy},
		{"multipart", "takes objects in parts", "An upload in parts is seen with CompleteUpload and not before; parts come in any order, and again.", []string{"put"}, protocol.KindStorage, checkMultipart},
		{"presign", "signs URLs", "A signed URL does what it was signed for, until it expires, and nothing else.", []string{"put"}, protocol.KindStorage, checkPresign},
		{"killed", "survives kill -9", "A process that is killed in the middle of a Put leaves the former object; what it has acknowledged is there.", []string{"put"}, protocol.KindStorage, checkKilled},
		{"large", "moves large objects in little memory", "Bytes are passed on as they come: memory is bounded, whatever the size of an object.", []string{"put"}, protocol.KindStorage, checkLarge},
		{"two", "serves beside its successor", "During an upgrade a second process serves the same objects, while the first ends its transfers and is drained.", []string{"put"}, protocol.KindStorage, checkTwo},
		{"sigterm", "ends at SIGTERM", "At SIGTERM it ends by itself, within ten seconds, with exit code 0.", []string{"handshake"}, "", checkSigterm},
		{"parent-death", "ends with its host", "When its parent is killed it ends by itself, within five seconds, with all that it started, and leaves no socket.", []string{"handshake"}, "", checkParentDeath},
	}
}

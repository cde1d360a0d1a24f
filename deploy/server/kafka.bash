# One Kafka broker that is its own controller (KRaft), from the jars of Maven Central. Read by deploy/services.
# shellcheck disable=SC2034,SC2154 # dir, home, port and secret are set and used on both sides

readonly kafka_version=3.9.1
kafka_jars=$root/.cache/kafka-$kafka_version
readonly kafka_jars

has_kafka() { [[ -e $kafka_jars/.complete ]] && has java; }

# get_kafka has Maven fetch the broker with what it needs.
get_kafka() {
  if ! has java || ! has mvn; then install_packages openjdk-17-jre-headless maven || return 1; fi
  say "fetching Kafka $kafka_version"
  mkdir -p "$kafka_jars"
  cat >"$kafka_jars/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>rivergate</groupId><artifactId>kafka-for-tests</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$kafka_version</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
  mvn -q -B -f "$kafka_jars/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DoutputDirectory="$kafka_jars" >&2 || return 1
  : >"$kafka_jars/.complete"
}

java_kafka() { printf '%s\n' "$(command -v java)" -Xms128m -Xmx384m -XX:+UseSerialGC -cp "$home/jars/*" "$@"; }

prepare_kafka() {
  # The server's user may not be able to go where the repository lies.
  cp -r -- "$kafka_jars" "$home/jars"
  chmod -R a+rX "$home/jars"
  free_port >"$home/sasl.port"
}

configure_kafka() {
  local controller sasl # nobody else connects to the first, so it may change
  controller=$(free_port)
  sasl=$(<"$home/sasl.port")
  write_as_server "$home/server.properties" <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,SASL_PLAINTEXT://127.0.0.1:$sasl,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port,SASL_PLAINTEXT://127.0.0.1:$sasl
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_rivergate="$secret";
listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$home/log
num.partitions=2
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
group.initial.rebalance.delay.ms=0
CONF
  [[ ! -d $home/log ]] || return 0
  local -a words
  mapfile -t words < <(java_kafka kafka.tools.StorageTool format --ignore-formatted \
    --add-scram "SCRAM-SHA-256=[name=rivergate,password=$secret]" --add-scram "SCRAM-SHA-512=[name=rivergate,password=$secret]" -t cml2ZXJnYXRlLXRlc3RzMA -c "$home/server.properties")
  as_server "${words[@]}" >"$home/format.log" 2>&1 || { cat "$home/format.log" >&2; die "kafka's storage could not be formatted"; }
}

command_kafka() { java_kafka kafka.Kafka "$home/server.properties"; }
ready_kafka() { said 'Kafka Server started'; }
env_kafka() {
  printf 'RIVERGATE_TEST_KAFKA_BROKERS=127.0.0.1:%s\n' "$port"
  # With Docker there is no second listener, and the tests that log in are skipped.
  [[ ! -s $home/sasl.port ]] || printf 'RIVERGATE_TEST_KAFKA_SASL=rivergate:%s@127.0.0.1:%s\n' "$secret" "$(<"$home/sasl.port")"
}

# Mosquitto. It writes its state down when it ends in good order, so SIGKILL costs what it had queued. Read by deploy/services.
# shellcheck disable=SC2034,SC2154 # dir, home, port and secret are set and used on both sides

package[mosquitto]=mosquitto
has_mosquitto() { has mosquitto_passwd && PATH=$PATH:/usr/sbin has mosquitto; }

prepare_mosquitto() {
  : | write_as_server "$home/passwords"
  # The tool takes the password from the file and hashes it there: it is in no process list.
  printf 'rivergate:%s\n' "$secret" >"$home/passwords"
  as_server mosquitto_passwd -U "$home/passwords"
}

configure_mosquitto() {
  printf 'user rivergate\ntopic readwrite #\ntopic deny denied/#\n' | write_as_server "$home/acl" # one topic that tests may not write to
  write_as_server "$home/mosquitto.conf" <<CONF
listener $port 127.0.0.1
allow_anonymous false
password_file $home/passwords
acl_file $home/acl
persistence true
persistence_location $home/
max_queued_messages 0
max_inflight_messages 200
message_size_limit 1048576
log_dest stderr
CONF
}

command_mosquitto() { printf '%s\n' "$(PATH=$PATH:/usr/sbin command -v mosquitto)" -c "$home/mosquitto.conf"; }
ready_mosquitto() { said 'running' && (: <>"/dev/tcp/127.0.0.1/$port"); }
env_mosquitto() { printf 'RIVERGATE_TEST_MQTT_URL=mqtt://rivergate:%s@127.0.0.1:%s\n' "$secret" "$port"; }

# VersityGW, an S3 server over a folder. Read by deploy/services.
# shellcheck disable=SC2034,SC2154 # dir, home, port and secret are set and used on both sides

has_s3() { [[ -x $root/.cache/bin/versitygw ]]; }
get_s3() { "$root/deploy/tools" versitygw; }

prepare_s3() {
  mkdir "$home/objects"
  random_hex >"$home/health"
  cp -- "$root/.cache/bin/versitygw" "$home/versitygw" # the server's user may not be able to go where the repository lies
  [[ -z $server_user ]] || chown "$server_user" "$home/objects" "$home/versitygw"
}

configure_s3() {
  write_as_server "$home/run" <<RUN
export ROOT_ACCESS_KEY=rivergate ROOT_SECRET_KEY=$secret
exec ./versitygw --port 127.0.0.1:$port --quiet --health /$(<"$home/health") posix ./objects
RUN
}

command_s3() { printf '%s\n' /bin/sh "$home/run"; }
# No other server knows that path.
ready_s3() { curl -fs -m 5 -o "$home/answer" "http://127.0.0.1:$port/$(<"$home/health")"; }
env_s3() { printf 'RIVERGATE_TEST_S3_URL=http://rivergate:%s@127.0.0.1:%s\n' "$secret" "$port"; }

# How a server is run; read by deploy/services. A server's file defines, for its NAME:
# shellcheck disable=SC2034,SC2154 # dir, home, port and secret are set and used on both sides
#   has_NAME          tells whether it is installed
#   package[NAME]     what apt-get calls it; or get_NAME, which installs it in another way
#   configure_NAME    writes its configuration into $home, for $port; called before every launch
#   command_NAME      prints its command line, one word a line; it runs in the foreground, in $home
#   ready_NAME        tells whether the server that we launched answers now
#   env_NAME          prints its lines of DIR/env
# and, where something is to be made once, prepare_NAME. $home, $port and $secret are set for all of them; the log is
# $home/server.log, of this launch alone.

# settings NAME sets home, port and secret of a server that was started before.
settings() {
  home=$(<"$dir/state/$1.home")
  port=$(<"$dir/state/$1.port")
  secret=$(<"$home/secret")
}

# begin NAME starts a server anew, on a free port.
begin() {
  local name=$1 home port secret try
  home=$(make_home "$name")
  random_hex | write_as_server "$home/secret"
  secret=$(<"$home/secret")
  if declare -F "prepare_$name" >/dev/null; then "prepare_$name"; fi
  for ((try = 0; try < 10; try++)); do
    port=$(free_port)
    printf '%s' "$port" >"$dir/state/$name.port"
    if launch "$name"; then
      "env_$name" >"$dir/state/$name.env"
      return
    fi
    grep -qiE 'in use|eaddrinuse|errno: 98|cannot listen' "$home/server.log" || die "$name did not start: $(tail -n 20 "$home/server.log")"
  done
  die "$name found no free port in $try tries"
}

# launch NAME runs the command as the leader of a process group of its own, and waits until it answers.
launch() {
  local name=$1 limit=$((SECONDS + 180)) # a busy machine takes a minute for Kafka
  local -a words session=(setsid)
  "configure_$name"
  mapfile -t words < <("command_$name")
  has setsid || session=(perl -MPOSIX -e 'POSIX::setsid(); exec @ARGV') # macOS
  rm -f -- "$home/pid" "$home/server.log"
  : | write_as_server "$home/server.log"
  # The child itself says who it is, before it leaves our group: an interruption finds it in one place or the other.
  (
    cd "$home" || exit
    printf '%s\n' "$BASHPID" >"$home/pid"
    HOME=$home TMPDIR=$home exec "${session[@]}" "${as_user[@]}" "${words[@]}" </dev/null >>"$home/server.log" 2>&1 9>&-
  ) &
  local child=$!
  disown
  record "$name" "$child" || return 1
  while ((SECONDS < limit)); do
    if "ready_$name" 2>/dev/null; then return; fi
    running "$name" || return 1
    sleep 0.05
  done
  say "$name does not answer"
  return 1
}

# said TEXT: is the line in the log of this launch? An answer on the port could be another program's.
said() { grep -qF -- "$1" "$home/server.log"; }

package command

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

const pushersPath = "/api/v1/gateway/pushers"

// pusher is an entry of GET /api/v1/gateway/pushers.
type pusher struct {
	Name           string  `json:"name"`
	Binary         string  `json:"binary"`
	Version        string  `json:"version"`
	SHA256         string  `json:"sha256"`
	State          string  `json:"state"`
	Reason         string  `json:"reason"`
	LagRows        int64   `json:"lag_rows"`
	LagBytes       int64   `json:"lag_bytes"`
	OldestAgeMS    int64   `json:"oldest_age_ms"`
	DeliveredTotal int64   `json:"delivered_total"`
	DeadTotal      int64   `json:"dead_total"`
	RowsPerSecond  float64 `json:"rows_per_second"`
	Restarts       int64   `json:"restarts"`
	LastError      string  `json:"last_error"`
	Condition      string  `json:"condition"`
	ConditionWhy   string  `json:"condition_reason"`
}

// stateTones are the states of pushers and plugins as api.md names them.
var stateTones = map[string]tone{
	"running": good, "starting": doubtful, "backing_off": doubtful, "paused": doubtful,
	"crash_loop": bad, "failed": bad, "disabled": faint,
}

func (c *cli) pushersCommand() *cobra.Command {
	pushers := group("pushers", "Watch and steer the destinations of a running host",
		"Watch and steer the destinations of a running host.\n\n"+exitCodesHelp,
		&cobra.Command{
			Use: "list", Short: "Every pusher: its state, how far behind it is, what it delivered",
			Example: "  rivergate pushers list\n  rivergate pushers list --json | jq '.pushers[] | select(.lag_rows > 0)'",
			Args:    cobra.NoArgs,
			RunE:    func(cmd *cobra.Command, _ []string) error { return c.listPushers(cmd) },
		},
		&cobra.Command{
			Use: "pause NAME", Short: "Stop delivering to one destination; rows are accepted and wait",
			Example: "  rivergate pushers pause postgres",
			Args:    cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.steerPusher(cmd, http.MethodPost, args[0], "/pause")
			},
		},
		&cobra.Command{
			Use: "resume NAME", Short: "Deliver again, from where it stopped",
			Example: "  rivergate pushers resume postgres",
			Args:    cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.steerPusher(cmd, http.MethodPost, args[0], "/resume")
			},
		},
		&cobra.Command{
			Use: "forget NAME", Short: "Let go of the rows that a disabled pusher still keeps",
			Long: `Let go of the rows that a disabled pusher still keeps.

A pusher that is disabled, or gone from the configuration, keeps its place and its rows: enabled again, it goes on where
it stopped. forget gives both up, for good. A pusher that is enabled is refused.`,
			Example: "  rivergate pushers forget warehouse",
			Args:    cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.steerPusher(cmd, http.MethodDelete, args[0], "")
			},
		},
	)
	c.clientFlags(pushers)
	return pushers
}

func (c *cli) listPushers(cmd *cobra.Command) error {
	host, err := c.client()
	if err != nil {
		return err
	}
	var list struct {
		Pushers []pusher `json:"pushers"`
	}
	if c.json {
		return c.passJSON(cmd, host, pushersPath, nil)
	}
	if _, err := host.call(cmd.Context(), http.MethodGet, pushersPath, nil, nil, &list); err != nil {
		return err
	}
	if len(list.Pushers) == 0 {
		fmt.Fprintln(c.Stdout, "No pusher. Enable one with PLUGIN_<NAME>_ENABLED=true, for example PLUGIN_FILE_ENABLED=true.")
		return nil
	}
	rows := make([][]cell, len(list.Pushers))
	for i, p := range list.Pushers {
		why := cmp.Or(p.Reason, p.ConditionWhy, p.LastError)
		rows[i] = []cell{
			text(p.Name), {text: p.State, tone: stateTones[p.State]}, {text: p.Condition, tone: doubtful}, number(count(p.LagRows)), number(lagSize(p)),
			number(age(time.Duration(p.OldestAgeMS) * time.Millisecond)), number(rate(p.RowsPerSecond)),
			number(count(p.DeliveredTotal)), number(count(p.DeadTotal)), number(count(p.Restarts)), text(short(why, 100)),
		}
	}
	c.table([]string{"NAME", "STATE", "CONDITION", "WAITING", "BYTES", "OLDEST", "RATE", "DELIVERED", "DEAD", "RESTARTS", "WHY"}, rows)
	return nil
}

func lagSize(p pusher) string {
	if p.LagRows == 0 {
		return ""
	}
	return size(p.LagBytes)
}

// steerPusher makes one request about one pusher and prints the host's sentence.
func (c *cli) steerPusher(cmd *cobra.Command, method, name, action string) error {
	host, err := c.client()
	if err != nil {
		return err
	}
	var data json.RawMessage // numbers keep their text
	message, err := host.call(cmd.Context(), method, pushersPath+"/"+url.PathEscape(name)+action, nil, nil, &data)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(data)
	}
	fmt.Fprintln(c.Stdout, message)
	return nil
}

// passJSON prints the data of an answer as the host gave it.
func (c *cli) passJSON(cmd *cobra.Command, host *client, path string, query url.Values) error {
	var data json.RawMessage
	if _, err := host.call(cmd.Context(), http.MethodGet, path, query, nil, &data); err != nil {
		return err
	}
	return c.printJSON(data)
}

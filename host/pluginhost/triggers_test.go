package pluginhost

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAPluginThatNeedsTriggersNeedsAControlTower(t *testing.T) {
	t.Setenv("LIE", "trigger")
	w := newWorld(t)
	w.install("lying", "riffyn")
	in := Instance{Name: "lab", Plugin: "riffyn", PassEnv: []string{"LIE"}}
	want := "RIVERGATE_CONTROL_TOWER_URL is not set, and pusher lab: the plugin needs the trigger of each row"
	problems := w.host.Check(t.Context(), []Instance{in})
	require.Len(t, problems, 1)
	require.Contains(t, reasons(problems), want)
	problems = w.host.Start(t.Context(), []Instance{in})
	require.Len(t, problems, 1)
	require.Contains(t, reasons(problems), want)

	w = newWorld(t, func(o *Options) { o.Triggers = true })
	w.install("lying", "riffyn")
	require.Empty(t, w.host.Check(t.Context(), []Instance{in}))
	w.start(in)
	require.True(t, w.open("lab").NeedsTrigger())
	require.True(t, w.status("lab").NeedsTrigger)
}

func TestAPluginWithoutTriggersNeedsNoControlTower(t *testing.T) {
	w := newWorld(t)
	w.install("flaky", "good")
	w.start(acme("good"))
	require.False(t, w.open("good").NeedsTrigger())
}

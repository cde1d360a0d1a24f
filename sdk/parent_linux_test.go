package sdk

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheKernelTellsWhenAProcessHasEnded(t *testing.T) {
	sleeper := exec.Command("sleep", "1000")
	require.NoError(t, sleeper.Start())
	over, stop, err := ended([]int{os.Getppid(), sleeper.Process.Pid})
	require.NoError(t, err)
	select {
	case <-over:
		t.Fatal("both live")
	default:
	}
	require.NoError(t, sleeper.Process.Kill())
	select {
	case <-over: // dead is enough: nobody has to have waited for it
	case <-time.After(20 * time.Second):
		t.Fatal("it was not noticed")
	}
	require.Error(t, sleeper.Wait())
	stop()

	_, _, err = ended([]int{os.Getppid(), sleeper.Process.Pid})
	require.Error(t, err, "a process that is not there cannot be watched")
}

func TestAWatchThatIsGivenUpEnds(t *testing.T) {
	for _, host := range []string{"", "1", strconv.Itoa(os.Getppid())} {
		over, stop, err := ended([]int{os.Getppid()})
		require.NoError(t, err)
		stop() // returns when its goroutines have ended
		select {
		case <-over:
			t.Fatal("the parent lives")
		default:
		}
		require.True(t, watchParent(t.Context(), os.Getppid()+1, host), "another parent than at the start")
	}
}

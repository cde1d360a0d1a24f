package sdk_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/sdk"
)

// modeVariable makes this test binary a plugin, or a host that starts one.
const modeVariable = "SDK_TEST_MODE"

// A package variable is filled before main, and so before the SDK's Serve can do anything about what is printed.
var _ = func() bool {
	if os.Getenv(modeVariable) != "" {
		fmt.Println("noise of init")
	}
	return true
}()

func TestMain(m *testing.M) {
	switch os.Getenv(modeVariable) {
	case "":
		goleak.VerifyTestMain(m)
	case "host":
		host()
	default:
		fmt.Println("noise of main")
		_, _ = syscall.Write(1, []byte("noise of C\n"))
		quit := make(chan struct{})
		started := make(chan struct{})
		go func() { // a library that never stops talking
			for i := 0; ; i++ {
				fmt.Println("noise of a library", i)
				if i == 10 {
					close(started)
				}
				select {
				case <-quit:
					return
				default:
				}
				if i > 2000 {
					return
				}
			}
		}()
		<-started
		defer close(quit)
		sdk.Serve(sdk.Plugin{Name: "child", Version: "1.2.3", Summary: "A plugin in a process.", Pusher: func() sdk.Pusher { return new(child) }})
	}
}

// child does what its rows say.
type child struct {
	Gate string `config:"gate" doc:"A named pipe that the row \"wait\" reads to its end."`
	log  sdk.Logger
}

func (c *child) Open(_ context.Context, env sdk.Env) error {
	c.log = env.Log
	fmt.Println("noise of Open")
	return nil
}

func (c *child) Deliver(ctx context.Context, b *sdk.Batch) error {
	for row := range b.Rows() {
		do, _ := row.Field("do")
		switch do.String() {
		case "panic":
			panic("boom in Deliver")
		case "log":
			c.log.Info("a long line", "text", strings.Repeat("x", 1<<20))
		case "wait":
			c.log.Info("in hand")
			if _, err := os.ReadFile(c.Gate); err != nil {
				return err
			}
		case "hang":
			c.log.Info("in hand")
			<-ctx.Done()
			return ctx.Err()
		case "fail":
			b.Fail(row, errors.New("failed as told \xff"))
		}
		fmt.Println("noise of Deliver")
	}
	return nil
}

func (c *child) Close(context.Context) error {
	c.log.Info("closed")
	return nil
}

// host starts a plugin as a host would, reads its handshake and lives until it is killed. The plugin inherits descriptor
// 3, a pipe whose other end the test holds: it sees the end of both.
func host() {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	alive := os.NewFile(3, "alive")
	command := exec.Command(self)
	command.Env = append(pluginEnv("plugin"), os.Getenv("SDK_TEST_EXTRA"))
	command.ExtraFiles = []*os.File{alive}
	stdout, err := command.StdoutPipe()
	if err != nil {
		panic(err)
	}
	if err := command.Start(); err != nil {
		panic(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		panic(err)
	}
	fmt.Print(command.Process.Pid, " ", line)
	forever := make(chan os.Signal, 1)
	signal.Notify(forever, syscall.SIGUSR1)
	<-forever
}

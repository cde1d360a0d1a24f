package command

import (
	"context"
	"fmt"
	"strings"

	"github.com/rivergate/rivergate/sdk/plugintest/conformance"
)

// conform holds a new plugin's binary against every rule of the contract. What did not pass is the output.
func conform(ctx context.Context, binary string, config map[string]any) (output string, err error) {
	report, err := conformance.Run(ctx, conformance.Options{Path: binary, Config: config})
	if err != nil {
		return "", err
	}
	failed := report.Failed()
	if len(failed) == 0 {
		return "", nil
	}
	var b strings.Builder
	for _, f := range failed {
		b.WriteString(f.Text())
	}
	return b.String(), fmt.Errorf("%d of %d rules are broken", len(failed), len(report.Results))
}

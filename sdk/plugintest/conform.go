package plugintest

import (
	"testing"

	"github.com/rivergate/rivergate/sdk/plugintest/conformance"
)

// Conform runs the conformance suite against a built binary, each rule as a subtest: the test fails where the plugin breaks
// the contract, with what to change. config is the configuration of the instance that the rules use; let its destination be
// one that takes rows. change alters the options, for example the variables that the process gets.
func Conform(t *testing.T, binary string, config map[string]any, change ...func(*conformance.Options)) *conformance.Report {
	t.Helper()
	opts := conformance.Options{Path: binary, Config: config}
	for _, c := range change {
		c(&opts)
	}
	report, err := conformance.Run(t.Context(), opts)
	if err != nil {
		t.Fatalf("conformance: %v", err)
	}
	for _, result := range report.Results {
		t.Run(result.Rule, func(t *testing.T) {
			switch result.Status {
			case conformance.Fail:
				t.Errorf("%s", result.Text())
			case conformance.Skipped:
				t.Skip(result.Detail)
			default:
				if result.Detail != "" {
					t.Log(result.Detail)
				}
			}
		})
	}
	if remark := report.Remark(); remark != "" {
		t.Log(remark)
	}
	return report
}

package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAMemberIsThePropertysNameInCamelCase(t *testing.T) {
	for name, want := range map[string]string{
		// The examples of the rule.
		"OD measured":        "odMeasured",
		"LED 395nm setpoint": "led395NmSetpoint",
		"LED 6500K setpoint": "led6500KSetpoint",
		"fp1 emit 1":         "fp1Emit1",
		"pH value":           "phValue",
		"cell_count":         "cell_Count",
		"CO2 flow-rate":      "co2Flow-Rate",
		// What follows from it.
		"Time elapsed":      "timeElapsed",
		"Absorbance":        "absorbance",
		"ERROR":             "error",
		"  Two  spaces ":    "twoSpaces",
		"2nd value":         "2NdValue",
		"it's":              "it'S",
		"µ max":             "µMax",
		"Temperatur (°C)":   "temperatur(°C)",
		"ÖLSTAND über NN":   "ölstandÜberNn",
		"tab\tstays":        "tab\tStays",
		"alreadyCamelCased": "alreadycamelcased",
		"":                  "",
	} {
		require.Equal(t, want, camelCase(name), "%q", name)
	}
}

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestTheReadmeListsEverySetting(t *testing.T) {
	plugintest.RequireSettings(t, "README.md", "PLUGIN_RIFFYN_", Riffyn{})
}

func TestTheTestsThatTheReadmeNamesExist(t *testing.T) {
	var source strings.Builder
	for _, folder := range []string{".", "../../../services/gateway", "../../../host/e2e"} {
		files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			source.Write(text)
		}
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(readme), -1)
	require.NotEmpty(t, named)
	for _, name := range named {
		require.Contains(t, source.String(), "func "+name[1]+"(")
	}
}

package main

import (
	"testing"

	"github.com/rivergate/rivergate/sdk/plugintest"
)

func TestTheReadmeListsEverySetting(t *testing.T) {
	plugintest.RequireSettings(t, "README.md", "PLUGIN_STORAGE_S3_", S3{})
}

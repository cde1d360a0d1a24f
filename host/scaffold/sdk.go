package scaffold

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

const (
	sdkModule  = "github.com/rivergate/rivergate"
	unreleased = "v0.0.0" // what a replace directive stands for
)

// SDK is where a plugin gets the SDK from: a released version, or a source checkout.
type SDK struct {
	Version string `json:"version,omitempty"`
	Folder  string `json:"folder,omitempty"` // absolute; holds go.mod
}

var (
	versionForm = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$`)
	// A release has a bare tag; what git describe says between two of them (v1.2.0-5-gabc) is none.
	releaseForm = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-(alpha|beta|rc)[0-9.]*)?$`)
)

// FindSDK chooses the SDK: what is wished (--sdk), else the release that this binary is of, else the source checkout that
// one of the given places lies in.
func FindSDK(wish, release string, places ...string) (SDK, error) {
	if wish != "" {
		return wished(wish)
	}
	if releaseForm.MatchString(release) {
		return SDK{Version: release}, nil
	}
	for _, place := range places {
		for at := place; place != ""; at = filepath.Dir(at) {
			if isCheckout(at) {
				return SDK{Folder: at}, nil
			}
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	return SDK{}, mistake("this binary is no release (%s) and lies in no source checkout, so say which SDK the plugin is built with: --sdk v1.2.3, or --sdk and the folder of a checkout of %s", release, sdkModule)
}

func wished(wish string) (SDK, error) {
	if versionForm.MatchString(wish) {
		return SDK{Version: wish}, nil
	}
	folder, err := filepath.Abs(wish)
	if err != nil {
		return SDK{}, mistake("--sdk %s: %v", wish, err)
	}
	if filepath.Base(folder) == "sdk" && isCheckout(filepath.Dir(folder)) {
		folder = filepath.Dir(folder)
	}
	if !isCheckout(folder) {
		return SDK{}, mistake("--sdk %s is neither a version such as v1.2.3 nor a folder with a checkout of %s", wish, sdkModule)
	}
	return SDK{Folder: folder}, nil
}

// isCheckout tells whether dir holds this module with its SDK.
func isCheckout(dir string) bool {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil || moduleOf(mod) != sdkModule {
		return false
	}
	info, err := os.Stat(filepath.Join(dir, "sdk", "plugintest"))
	return err == nil && info.IsDir()
}

// moduleOf is the module path that a go.mod declares.
func moduleOf(mod []byte) string {
	for line := range strings.Lines(string(mod)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "module"); ok && strings.TrimLeft(rest, " \t") != rest {
			path := strings.TrimSpace(rest)
			if unquoted, err := strconv.Unquote(path); err == nil {
				path = unquoted
			}
			return path
		}
	}
	return ""
}

// quotePath is a folder as a go.mod holds it.
func quotePath(path string) string {
	if strings.ContainsAny(path, " \t\"'`(),") {
		return strconv.Quote(path)
	}
	return path
}

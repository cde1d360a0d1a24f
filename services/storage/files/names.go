package files

import (
	"crypto/rand"
	"encoding/hex"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/api"
)

// An object name is the whole name by which clients know an object:
//
//	organizations/{org}/files/{user or 0}/[{path}/]{stem}_{YYYYMMDD_HHMMSS}_{8 hex}.{ext}
//	organizations/{org}/internal/{purpose}/…
//	organizations/{org}/models/{model_id}/v{n}/…
//	organizations/{org}/staging/{job_id}/…
const (
	maxFileName = 255
	maxPath     = 512
	maxStem     = 100
	maxExt      = 16
)

// orgFolder is where everything of an org is.
func orgFolder(org uint64) string { return "organizations/" + strconv.FormatUint(org, 10) + "/" }

// userFolder is where a user's own files are; 0: those of requests without a user.
func userFolder(org, user uint64) string {
	return orgFolder(org) + "files/" + strconv.FormatUint(user, 10) + "/"
}

// uniqueName makes a name that no other upload gets. what: the name that the client gave.
func uniqueName(fileName string, now time.Time) string {
	ext := sanitised(strings.TrimPrefix(path.Ext(fileName), "."), maxExt)
	stem := sanitised(strings.TrimSuffix(fileName, path.Ext(fileName)), maxStem)
	if stem = strings.TrimLeft(stem, "."); stem == "" {
		stem = "file"
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails, says crypto/rand
	name := stem + "_" + now.UTC().Format("20060102_150405") + "_" + hex.EncodeToString(random[:])
	if ext = strings.Trim(ext, "."); ext != "" {
		name += "." + ext
	}
	return name
}

// sanitised keeps what is allowed in unique names; the rest becomes "_", at most most characters of it.
func sanitised(text string, most int) string {
	var b strings.Builder
	for _, r := range text {
		if b.Len() == most {
			break
		}
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			b.WriteByte(byte(r))
		default:
			b.WriteByte('_')
		}
	}
	return b.String()
}

// checkFileName: the name of a file without its folders, as the client calls it.
func checkFileName(field, name string) error {
	switch {
	case name == "":
		return api.BadRequest(field, "the file has no name")
	case len(name) > maxFileName:
		return api.BadRequest(field, "the name of the file has %d bytes; %d are allowed", len(name), maxFileName)
	case name == "." || name == "..", strings.ContainsAny(name, `/\`):
		return api.BadRequest(field, `the name of the file must not have a folder in it ("/", "\" or "..")`)
	}
	return checkText(field, name)
}

// checkPath returns the folder below the user's own, without a slash at its end.
func checkPath(field, folder string) (string, error) {
	if folder == "" {
		return "", nil
	}
	folder = strings.TrimSuffix(folder, "/")
	if len(folder) > maxPath {
		return "", api.BadRequest(field, "%s has %d bytes; %d are allowed", field, len(folder), maxPath)
	}
	if strings.HasPrefix(folder, "/") || strings.Contains(folder, `\`) {
		return "", api.BadRequest(field, `%s must be relative, its folders separated by "/"`, field)
	}
	return folder, checkSegments(field, folder)
}

// checkName: an object name as a client sends it.
func checkName(field, name string) error {
	if len(name) > protocol.MaxKey-suffixSize {
		return api.BadRequest(field, "%s has %d bytes; %d are allowed", field, len(name), protocol.MaxKey-suffixSize)
	}
	if strings.HasPrefix(name, "/") || strings.Contains(name, `\`) {
		return api.BadRequest(field, `%s must not begin with "/" nor have a "\" in it`, field)
	}
	return checkSegments(field, name)
}

func checkSegments(field, name string) error {
	for segment := range strings.SplitSeq(name, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return api.BadRequest(field, `%s must not have "", "." or ".." between slashes`, field)
		}
	}
	return checkText(field, name)
}

func checkText(field, text string) error {
	if !utf8.ValidString(text) {
		return api.BadRequest(field, "%s must be UTF-8", field)
	}
	if i := strings.IndexFunc(text, unicode.IsControl); i >= 0 {
		return api.BadRequest(field, "%s must not have control characters in it", field)
	}
	return nil
}

// ownName checks that an object name lies in the caller's own folder. Errors: 400, 404 (another org's), 403.
func ownName(caller *api.Caller, name string) error {
	if err := checkName(fieldObject, name); err != nil {
		return err
	}
	if strings.HasPrefix(name, userFolder(caller.OrgID, caller.UserID)) {
		return nil
	}
	if strings.HasPrefix(name, "organizations/") && !strings.HasPrefix(name, orgFolder(caller.OrgID)) {
		return errNoObject()
	}
	return api.Forbidden("The object is outside your own folder, %s", userFolder(caller.OrgID, caller.UserID))
}

// Purposes of internal files.
var purposes = map[string]bool{"query_result": true, "staging_chunk": true, "model_artifact": true, purposeTemp: true}

const purposeTemp = "temp"

// internalName is the whole name of an internal file. A name that the client gives whole must lie in one of its org's folders
// for what is not a user's; any other is put below the purpose.
func internalName(org uint64, purpose, given, fileName string, now time.Time) (string, error) {
	folder := orgFolder(org) + "internal/" + purpose + "/"
	if given == "" {
		if fileName == "" {
			fileName = purpose
		}
		return folder + uniqueName(fileName, now), nil
	}
	if err := checkName(fieldObject, given); err != nil {
		return "", err
	}
	if !strings.HasPrefix(given, "organizations/") {
		given = folder + given
		return given, checkName(fieldObject, given)
	}
	for _, kind := range []string{"internal/", "staging/", "models/"} {
		if strings.HasPrefix(given, orgFolder(org)+kind) {
			return given, nil
		}
	}
	return "", api.Forbidden("Internal files of this organisation are below %sinternal/", orgFolder(org))
}

// suffixSize is what the ledger adds to a name for the key of a version.
const suffixSize = 9

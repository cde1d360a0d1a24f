package seal

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
)

const tagKeys = "Storage: keys"

type orgParam struct {
	Org uint64 `path:"org" minimum:"1"`
}

// Rotated is the answer to a rotation of the master key.
type Rotated struct {
	Former    string `json:"former" required:"true" description:"Fingerprint of the master key until now."`
	Master    string `json:"master" required:"true" description:"Fingerprint of the new one."`
	Rewrapped int    `json:"rewrapped" required:"true" description:"Keys of organisations that it wraps now."`
}

// OrgKeysDeleted is the answer to the deletion of an org's keys.
type OrgKeysDeleted struct {
	OrgID       uint64 `json:"organization_id" required:"true"`
	KeysDeleted int    `json:"keys_deleted" required:"true"`
}

// OrgKeyMade is the answer to a new key of an org.
type OrgKeyMade struct {
	OrgID uint64 `json:"organization_id" required:"true"`
	KeyID string `json:"key_id" required:"true"`
}

// Routes are those of whoever operates the host. No key is ever in an answer. Where the host does not encrypt, k is nil: 409.
func (k *Keys) Routes() []api.Route {
	return []api.Route{
		{
			Method: http.MethodPost, Path: "/internal/storage/rotate-key", ID: "rotateMasterKey", Tag: tagKeys, Summary: "Wrap the organisations' keys with the new master key",
			About: "The new one is RIVERGATE_MASTER_KEY, or what its file holds by now, with the present one in RIVERGATE_MASTER_KEY_PREVIOUS; a host that was given none makes a new one. " +
				"Files are not touched.",
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Rotated]{}}}, Errors: []int{http.StatusConflict}, Handler: k.encrypts((*Keys).rotateMaster),
		},
		{
			Method: http.MethodPost, Path: "/internal/orgs/{org}/key", ID: "rotateOrgKey", Tag: tagKeys, Summary: "Give an organisation a new key",
			About: "For what it stores from now on; what is stored can be read as before.", Params: orgParam{},
			Answers: []api.Answer{{Status: http.StatusCreated, Body: api.Envelope[OrgKeyMade]{}}}, Errors: []int{http.StatusConflict}, Handler: k.encrypts((*Keys).newOrgKey),
		},
		{
			Method: http.MethodDelete, Path: "/internal/orgs/{org}/key", ID: "deleteOrgKeys", Tag: tagKeys, Summary: "Make everything that an organisation stores unreadable",
			About: "For ever, for everybody, on every host within seconds. Its files stay in the books until they are deleted; reading them answers 410.", Params: orgParam{},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[OrgKeysDeleted]{}}}, Errors: []int{http.StatusConflict}, Handler: k.encrypts((*Keys).deleteOrgKeys),
		},
	}
}

func (k *Keys) encrypts(handler func(*Keys, *fiber.Ctx) error) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if k == nil {
			return api.Conflict("This host does not encrypt what it stores, so there are no keys: RIVERGATE_STORAGE_ENCRYPTION=host changes that")
		}
		return handler(k, c)
	}
}

func orgOf(c *fiber.Ctx) (uint64, error) {
	org, err := strconv.ParseUint(c.Params("org"), 10, 53)
	if err != nil || org == 0 {
		return 0, api.BadRequest("org", "org must be an integer above 0")
	}
	return org, nil
}

// answerTo: a master key that this host lacks is for its operator, who asks here.
func answerTo(err error) error {
	if errors.Is(err, ErrMaster) {
		e := api.Conflict("%v", err)
		e.Cause = err
		return e
	}
	return err
}

func (k *Keys) rotateMaster(c *fiber.Ctx) error {
	former := k.Master()
	rewrapped, err := k.RotateMaster(k.life)
	if errors.Is(err, errNoNewMaster) {
		return api.Conflict("There is no new master key: set RIVERGATE_MASTER_KEY to it and RIVERGATE_MASTER_KEY_PREVIOUS to the present one, and restart the host")
	}
	if err != nil {
		return answerTo(err)
	}
	return api.OK(c, Rotated{Former: former, Master: k.Master(), Rewrapped: rewrapped}, "Master key rotated")
}

func (k *Keys) newOrgKey(c *fiber.Ctx) error {
	org, err := orgOf(c)
	if err != nil {
		return err
	}
	keyID, err := k.RotateOrg(k.life, org)
	if err != nil {
		return answerTo(err)
	}
	return api.Success(c, http.StatusCreated, OrgKeyMade{org, keyID}, "Key made")
}

func (k *Keys) deleteOrgKeys(c *fiber.Ctx) error {
	org, err := orgOf(c)
	if err != nil {
		return err
	}
	deleted, err := k.DeleteOrg(k.life, org)
	if err != nil {
		return err
	}
	return api.OK(c, OrgKeysDeleted{org, deleted}, "Keys deleted")
}

//go:build !linux

package wire

import (
	"context"
	"errors"
	"io"

	pluginv1 "github.com/rivergate/rivergate/proto/rivergate/plugin/v1"
)

func nameFile(io.ReadCloser, int64) *pluginv1.OpenFile { return nil }

func openFile(context.Context, string, *pluginv1.OpenFile, int64) (*fileBody, error) {
	return nil, errors.New("files cannot be taken over on this system")
}

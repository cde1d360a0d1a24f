// Package tlsfiles is the settings of a TLS connection that several pushers share. Embed Files in a pusher.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"

	"github.com/rivergate/rivergate/sdk"
)

// Files are the certificates of a connection.
type Files struct {
	CAFile   string `config:"ca_file" doc:"PEM file of the authorities that the server's certificate may come from, in place of the system's."`
	CertFile string `config:"cert_file" doc:"PEM file of a client certificate."`
	KeyFile  string `config:"key_file" doc:"PEM file of its key."`
	Insecure bool   `config:"insecure" default:"false" doc:"Accept any server certificate. For tests."`
}

// TLS reads the files. An error names its setting.
func (f Files) TLS() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: f.Insecure} //nolint:gosec // INSECURE is the operator's own word
	if f.CAFile != "" {
		pem, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, sdk.FieldError("ca_file", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, sdk.FieldError("ca_file", errors.New("holds no PEM certificate"))
		}
	}
	switch {
	case f.CertFile == "" && f.KeyFile != "":
		return nil, sdk.FieldError("cert_file", errors.New("is needed beside KEY_FILE"))
	case f.CertFile != "" && f.KeyFile == "":
		return nil, sdk.FieldError("key_file", errors.New("is needed beside CERT_FILE"))
	case f.CertFile != "":
		certificate, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
		if err != nil {
			return nil, sdk.FieldError("cert_file", err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

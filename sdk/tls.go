package sdk

import (
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/rivergate/rivergate/sdk/wire"
)

// mutualTLS answers the host's demand for mutual TLS: the host's certificate is the only one that is let in, and ours, made
// for this process alone, travels back in the handshake line. The host checks it against the name localhost.
func mutualTLS(hostPEM []byte) (config *tls.Config, certificate []byte, err error) {
	hosts := x509.NewCertPool()
	if !hosts.AppendCertsFromPEM(hostPEM) {
		return nil, nil, errors.New("the host's certificate cannot be read")
	}
	own, err := wire.Certificate()
	if err != nil {
		return nil, nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{own},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    hosts,
		RootCAs:      hosts,
		ServerName:   "localhost",
		MinVersion:   tls.VersionTLS13,
	}, own.Certificate[0], nil
}

//go:build race

package pluginhost

// raceEnabled: the race detector makes everything several times slower, so figures are not checked under it.
const raceEnabled = true

// Uploads a file with the official client: gives up in the middle, goes on from what the server has, and prints what became of it.
//   node upload.mjs MODULES ENDPOINT FILE CHUNK
import { createReadStream, mkdtempSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const [modules, endpoint, file, chunk] = process.argv.slice(2)
const tus = createRequire(join(modules, 'package.json'))('tus-js-client')
const headers = { 'X-Org-ID': '7', 'X-User-ID': '3' }
const options = {
  endpoint,
  headers,
  chunkSize: Number(chunk),
  uploadSize: statSync(file).size,
  metadata: { filename: 'from node.bin', filetype: 'application/octet-stream', path: 'tus/js', file_category: 'general' },
  urlStorage: new tus.FileUrlStorage(join(mkdtempSync(join(tmpdir(), 'tus-')), 'urls.json')),
  retryDelays: null,
}

const finished = (upload, abortAt) =>
  new Promise((resolve, reject) => {
    upload.options.onError = reject
    upload.options.onSuccess = () => resolve('success')
    upload.options.onChunkComplete = (_, accepted) => {
      if (abortAt && accepted >= abortAt) upload.abort().then(() => resolve('aborted'), reject)
    }
    upload.start()
  })

const first = new tus.Upload(createReadStream(file), options)
const how = await finished(first, options.uploadSize / 3)
const second = new tus.Upload(createReadStream(file), { ...options, uploadUrl: first.url })
const end = await finished(second)

const gone = new tus.Upload(createReadStream(file), options)
await finished(gone, 1)
await gone.abort(true)
const after = await fetch(gone.url, { method: 'HEAD', headers: { ...headers, 'Tus-Resumable': '1.0.0' } })

console.log(JSON.stringify({ how, end, url: second.url, terminated: after.status }))

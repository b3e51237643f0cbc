import { svelte } from '@sveltejs/vite-plugin-svelte'
import tailwindcss from '@tailwindcss/vite'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  plugins: [tailwindcss(), svelte()],
  build: {
    outDir: 'dist',
    assetsInlineLimit: 0, // the content security policy has no `data:`
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 600, // kB; the editor, loaded with the policy view only
    rolldownOptions: { checks: { pluginTimings: false } },
    target: ['chrome123', 'firefox121', 'safari17.5'], // light-dark() of CSS
  },
  // The usual 5 s of a test include the compilation of what it imports, which a busy machine takes longer for.
  test: { include: ['tests/**/*.test.ts'], environment: 'node', testTimeout: 60_000, hookTimeout: 60_000 },
})

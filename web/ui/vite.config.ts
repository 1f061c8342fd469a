import { defineConfig } from 'vitest/config'
import { svelte } from '@sveltejs/vite-plugin-svelte'
import { svelteTesting } from '@testing-library/svelte/vite'

// The mock desk of dev/, or a real one: VITE_DESK=http://127.0.0.1:8080.
const desk = process.env['VITE_DESK'] ?? 'http://127.0.0.1:8099'

export default defineConfig(({ mode }) => ({
  plugins: [svelte(), ...(mode === 'test' ? [svelteTesting()] : [])],
  css: {
    preprocessorOptions: {
      // Bootstrap Italia is written for sass 1: its @import and / are deprecated there and work.
      scss: { loadPaths: ['node_modules/bootstrap-italia/src/scss'], quietDeps: true, silenceDeprecations: ['import', 'global-builtin', 'color-functions', 'if-function'] },
    },
  },
  build: {
    target: 'es2023',
    // One script, one sheet, no hashes: the build is committed and must be the same on every machine.
    cssCodeSplit: false,
    assetsInlineLimit: 0, // the policy of web lets no data: font in
    modulePreload: { polyfill: false },
    sourcemap: false,
    reportCompressedSize: true,
    rollupOptions: {
      output: {
        entryFileNames: 'assets/console.js',
        chunkFileNames: 'assets/[name].js',
        assetFileNames: (asset: { names: string[] }) =>
          asset.names.some((n) => n.endsWith('.css')) ? 'assets/console.css' : 'assets/[name][extname]',
      },
    },
  },
  server: {
    port: 5173,
    proxy: {
      '/api': { target: desk, ws: true },
      '/signin': desk,
      '/signout': desk,
    },
  },
  test: {
    environment: 'happy-dom',
    include: ['src/**/*.test.ts'],
    restoreMocks: true,
  },
}))
